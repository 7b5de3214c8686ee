"""The L1 distance of region embeddings, and who feels it."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from subpt_dense.losses import RegionDistillation
from subpt_dense.registry import MODELS


def units(seed: int, n: int = 6, d: int = 512) -> Tensor:
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("weight", [0.5, 2.0, 0.0])
def test_value(weight: float) -> None:
    embeddings, targets = units(0), units(1)
    loss = MODELS.build({"type": "subpt_dense.RegionDistillation", "weight": weight})(embeddings, targets)
    by_region = [
        sum(abs(a - b) for a, b in zip(*pair, strict=True))
        for pair in zip(embeddings.tolist(), targets.tolist(), strict=True)
    ]
    assert loss.item() == pytest.approx(weight * sum(by_region) / len(by_region), rel=1e-5)


def test_the_published_form() -> None:
    """ViLD's code, and the default: the mean over regions and dimensions, times the 512 dimensions, times 0.5."""
    embeddings, targets = units(0), units(1)
    torch.testing.assert_close(
        RegionDistillation()(embeddings, targets), torch.nn.functional.l1_loss(embeddings, targets) * 512 * 0.5
    )


def test_equal_embeddings() -> None:
    assert RegionDistillation()(units(0), units(0)).item() == pytest.approx(0, abs=1e-6)


def test_targets_of_a_cache_are_normalised() -> None:
    embeddings, targets = units(0), units(1)
    exact = RegionDistillation()(embeddings, targets)
    torch.testing.assert_close(RegionDistillation()(embeddings, 3 * targets), exact)
    torch.testing.assert_close(RegionDistillation()(embeddings, targets.half()), exact, rtol=1e-3, atol=0)


def test_only_the_embeddings_get_a_gradient() -> None:
    embeddings, targets = units(0, d=8).requires_grad_(), units(1, d=8).requires_grad_()
    RegionDistillation(weight=0.5)(embeddings, targets).backward()
    expected = 0.5 * torch.sign(embeddings - targets).detach() / len(embeddings)
    torch.testing.assert_close(embeddings.grad, expected)
    assert targets.grad is None


def test_no_regions() -> None:
    embeddings = torch.zeros(0, 8, requires_grad=True)
    loss = RegionDistillation()(embeddings, torch.zeros(0, 8, dtype=torch.float16))
    assert loss.item() == 0
    loss.backward()
    assert embeddings.grad.shape == (0, 8)


def test_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = RegionDistillation()(units(0), units(1).half())
    assert loss.dtype == torch.float32


@pytest.mark.parametrize(("a", "b"), [((3, 8), (4, 8)), ((3, 8), (3, 7)), ((8,), (8,))])
def test_shapes_that_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must have one shape \[N, D\]. Got \["):
        RegionDistillation()(torch.zeros(a), torch.zeros(b))


def test_a_negative_weight() -> None:
    with pytest.raises(ValueError, match="`weight` of RegionDistillation must be >= 0. Got -1"):
        RegionDistillation(weight=-1)
    assert "weight=0.5" in repr(RegionDistillation())
