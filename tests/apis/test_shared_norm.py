"""The layer it replaced, over all pictures; real processes are in tests/integration/test_dist_detection.py."""

import copy
from typing import Any
from unittest import mock

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from subpt_dense.apis.shared_norm import SharedBatchNorm2d, share_batch_norm

MODULE = "subpt_dense.apis.shared_norm"


def network(norm: type[nn.BatchNorm2d], **options: Any) -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), norm(4, **options), nn.Sequential(nn.Conv2d(4, 2, 1), norm(2, **options)))
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


def copies(tensor: Tensor) -> Tensor:
    """All-reduce among two processes with the same pictures."""
    return tensor * 2


@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}], ids=str
)
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, BatchNormAct2d])
@pytest.mark.parametrize("processes", [1, 2])
def test_output_gradients_and_statistics_are_the_replaced_layer_s(
    norm: type[nn.BatchNorm2d], options: dict[str, Any], processes: int
) -> None:
    plain = network(norm, **options)
    shared = copy.deepcopy(plain)
    assert share_batch_norm(shared) == 2 and share_batch_norm(shared) == 0
    assert list(shared.state_dict()) == list(plain.state_dict())
    x = torch.randn(3, 3, 6, 5, generator=torch.Generator().manual_seed(1)) * 2 + 1
    with mock.patch(f"{MODULE}.get_world_size", return_value=processes), mock.patch(f"{MODULE}.all_reduce", copies):
        for _ in range(2):
            found = shared(x)
        found.square().mean().backward()
    for _ in range(2):
        # Two processes with the same pictures are one with each twice.
        expected = plain(x.repeat(processes, 1, 1, 1))
    expected.square().mean().backward()
    torch.testing.assert_close(found, expected[:3], rtol=1e-5, atol=1e-5)
    for (name, a), (_, b) in zip(shared.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5, msg=name)
    statistics = dict(plain.named_buffers())
    for name, buffer in shared.named_buffers():
        torch.testing.assert_close(buffer, statistics[name], rtol=1e-5, atol=1e-6, msg=name)
    torch.testing.assert_close(shared.eval()(x), plain.eval()(x))


def test_parameters_and_mode_are_the_layer_s_own() -> None:
    norm = nn.BatchNorm2d(3).eval()
    norm.weight.requires_grad_(False)
    shared = SharedBatchNorm2d(norm)
    assert shared.weight is norm.weight and shared.running_var is norm.running_var and not shared.training
