"""Cascade attention against torch's own attention over prefix and suffix, class by class."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from subpt_dense.text.cascade import cascade_attention, joint_attention
from subpt_dense.text.tiles import Tiles, pack_tiles

HEADS, DEPTH = 2, 4
LENGTHS = [3, 1, 5, 3, 2, 4]


def tiles() -> Tiles:
    return pack_tiles([[i + 1] * length for i, length in enumerate(LENGTHS)], 7, 32)


def draw(prefix: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(len(tiles().ids), 3 * HEADS * DEPTH), (HEADS, prefix, DEPTH), (HEADS, prefix, DEPTH)]
    return [torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def one_by_one(qkv: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Each suffix behind the prefix, by scaled_dot_product_attention with a mask; rows without a class are zero."""
    found, packed = torch.zeros(len(qkv), HEADS * DEPTH, dtype=qkv.dtype), tiles()
    for i, length in enumerate(LENGTHS):
        end = int(packed.ends[packed.rank[i]]) + 1
        query, key, value = qkv[end - length : end].view(length, 3, HEADS, DEPTH).permute(1, 2, 0, 3)
        key, value = torch.cat([keys, key], dim=1), torch.cat([values, value], dim=1)
        mask = torch.ones(length, key.shape[1], dtype=torch.bool).tril(keys.shape[1])
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        found = found.index_put((torch.arange(end - length, end),), mixed.transpose(0, 1).flatten(1))
    return found


@pytest.mark.parametrize("prefix", [1, 17])
@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float64, 1e-13), (torch.float32, 1e-5), (torch.bfloat16, 5e-2), (torch.float16, 5e-3)]
)
def test_equals_torchs_attention(prefix: int, dtype: torch.dtype, atol: float) -> None:
    owned = tiles().ids > 0
    weight = torch.randn(len(owned), HEADS * DEPTH, dtype=torch.float64) * owned[:, None]
    found = []
    for compute in (lambda *xs: cascade_attention(*xs, tiles().mask), one_by_one):
        inputs = draw(prefix, dtype if compute is not one_by_one else torch.float64)
        mixed = compute(*inputs)
        (mixed.double() * weight).sum().backward()
        assert mixed.dtype == inputs[0].dtype
        found.append([mixed.detach() * owned[:, None], *(x.grad for x in inputs)])
    for ours, reference in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), reference, atol=atol * max(1, reference.abs().max()), rtol=0)


def test_its_derivative_is_that_of_its_values() -> None:
    assert torch.autograd.gradcheck(lambda *xs: cascade_attention(*xs, tiles().mask), draw(3))


def separately(qkv: Tensor, constants: Tensor | None, prefix: int) -> Tensor:
    """The prefix by torch's causal attention, the suffixes one by one behind it."""
    query, key, value = qkv[:prefix].view(prefix, 3, HEADS, DEPTH).permute(1, 2, 0, 3)
    own = scaled_dot_product_attention(query, key, value, is_causal=True).transpose(0, 1).flatten(1)
    return torch.cat([own, one_by_one(qkv[prefix:] if constants is None else constants, key, value)])


@pytest.mark.parametrize("constant", [False, True], ids=["inner layer", "first layer"])
@pytest.mark.parametrize("prefix", [1, 2, 17])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-13), (torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_jointly_is_both_one_after_the_other(constant: bool, prefix: int, dtype: torch.dtype, atol: float) -> None:
    owned = torch.cat([torch.ones(prefix, dtype=torch.bool), tiles().ids > 0])
    torch.manual_seed(1)
    drawn = torch.randn(len(owned), 3 * HEADS * DEPTH, dtype=torch.float64).to(dtype)
    weight = torch.randn(len(owned), HEADS * DEPTH, dtype=torch.float64) * owned[:, None]
    found = []
    for kind in (dtype, torch.float64):
        leaf = (drawn[:prefix] if constant else drawn).to(kind, copy=True).requires_grad_()
        constants = drawn[prefix:].to(kind) if constant else None
        if kind is dtype and not found:
            mixed = joint_attention(leaf, constants, tiles().mask, prefix, HEADS)
        else:
            mixed = separately(leaf, constants, prefix)
        (mixed.double() * weight).sum().backward()
        assert mixed.dtype == kind and leaf.grad is not None
        found.append((mixed.detach().double() * owned[:, None], leaf.grad.double()))
    for ours, reference in zip(*found, strict=True):
        torch.testing.assert_close(ours, reference, atol=atol * max(1, reference.abs().max()), rtol=0)


@pytest.mark.parametrize("constant", [False, True])
def test_the_joint_derivative_is_that_of_its_values(constant: bool) -> None:
    torch.manual_seed(2)
    drawn = torch.randn(3 + len(tiles().ids), 3 * HEADS * DEPTH, dtype=torch.float64)
    leaf = (drawn[:3] if constant else drawn).clone().requires_grad_()
    rest = drawn[3:] if constant else None
    assert torch.autograd.gradcheck(lambda x: joint_attention(x, rest, tiles().mask, 3, HEADS), leaf)
