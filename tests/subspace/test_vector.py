"""Tensors to one vector and back."""

import pytest
import torch

from subpt_dense.subspace import flatten, write_flat


def test_round_trip_keeps_order_shape_and_dtype() -> None:
    tensors = [torch.randn(2, 3).requires_grad_(), torch.randn(4).half(), torch.randn(3, 2).T]
    vector = flatten(tensors)
    assert vector.shape == (16,) and vector.dtype == torch.float32 and not vector.requires_grad
    assert torch.equal(vector[:6].view(2, 3), tensors[0])
    targets = [torch.zeros_like(tensor) for tensor in tensors]
    write_flat(vector.double(), targets)
    assert all(torch.equal(target, tensor) for target, tensor in zip(targets, tensors, strict=True))


def test_flatten_copies_even_one_tensor_and_write_goes_in_place() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    vector = flatten([parameter])
    vector += 1
    assert not parameter.any()
    storage = parameter.data_ptr()
    write_flat(vector, [parameter])
    assert parameter.data_ptr() == storage and parameter.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("vector", [torch.zeros(5), torch.zeros(7), torch.zeros(2, 3)])
def test_a_vector_of_another_length_is_refused(vector: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"`vector` must have shape \[6\], as long as the tensors"):
        write_flat(vector, [torch.zeros(2, 2), torch.zeros(2)])


def test_nothing_to_flatten_is_refused() -> None:
    with pytest.raises(ValueError, match="`tensors` must hold at least one tensor"):
        flatten([])
