"""The basis against a full centred PCA by SVD, and the snapshots it refuses."""

import math

import pytest
import torch

from subpt_dense.subspace import Subspace, fit_basis, largest_principal_angle


def trajectory(count: int, length: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    """A drift with noise around a far start: what snapshots look like, [n, P]."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(count, length, generator=generator, dtype=torch.float64) + 0.5
    scale = torch.linspace(1, 3, length, dtype=torch.float64)
    return (20 + (steps * scale).cumsum(0) / 100).to(dtype)


def full_pca(snapshots: torch.Tensor, rank: int) -> Subspace:
    """Reference: every right singular vector of the centred snapshots, cut at the rank."""
    exact = snapshots.double()
    _, values, rows = torch.linalg.svd(exact - exact.mean(0), full_matrices=True)
    return Subspace(rows[:rank], values[:rank] ** 2 / (values**2).sum())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("count", "length", "rank"), [(2, 5, 1), (10, 64, 5), (10, 64, 9), (50, 1024, 10), (30, 8, 8), (6, 6, 5)]
)
def test_equals_the_full_centred_pca(count: int, length: int, rank: int, dtype: torch.dtype) -> None:
    snapshots = trajectory(count, length, dtype)
    fitted, expected = fit_basis(snapshots, rank), full_pca(snapshots, rank)
    assert largest_principal_angle(fitted, expected) < 1e-9
    assert torch.allclose(fitted.explained, expected.explained, atol=1e-12)
    assert (fitted.basis @ fitted.basis.T - torch.eye(rank)).abs().max() < 1e-13
    cosines = (fitted.basis * expected.basis).sum(1).abs()  # row by row, not the span alone
    assert (cosines - 1).abs().max() < 1e-9


def test_wide_spectrum_keeps_its_small_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.linalg.qr(torch.randn(500, 12, generator=generator, dtype=torch.float64)).Q.T
    mix = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64)).Q
    snapshots = mix @ (rows * 0.4 ** torch.arange(12, dtype=torch.float64)[:, None])
    assert largest_principal_angle(fit_basis(snapshots, 8), full_pca(snapshots, 8)) < 1e-9


def test_input_is_left_alone_and_not_tracked() -> None:
    snapshots = trajectory(6, 20).requires_grad_()
    before = snapshots.detach().clone()
    assert not fit_basis(snapshots, 3).basis.requires_grad
    assert torch.equal(snapshots, before)


@pytest.mark.parametrize(
    ("count", "length", "rank", "message"),
    [
        (50, 100, 50, r"`rank` must be in \[1, 49\] for 50 snapshots. Got 50."),
        (50, 100, 0, r"`rank` must be in \[1, 49\] for 50 snapshots. Got 0."),
        (50, 100, -1, r"Got -1."),
        (50, 7, 8, r"`rank` must be in \[1, 7\] for 50 snapshots of 7 numbers. Got 8."),
    ],
)
def test_rank_outside_the_snapshots_is_refused(count: int, length: int, rank: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_basis(trajectory(count, length), rank)


@pytest.mark.parametrize(
    ("snapshots", "message"),
    [
        (torch.zeros(5), r"must have shape \[n, P\] with n >= 2 and a floating dtype. Got \[5\]"),
        (torch.zeros(1, 5), r"Got \[1, 5\] of torch.float32"),
        (torch.zeros(3, 5, dtype=torch.int64), r"Got \[3, 5\] of torch.int64"),
        (torch.tensor([[1.0, 2.0], [torch.nan, 1.0], [1.0, torch.inf]]), r"must be finite.*rows \[1, 2\]"),
    ],
)
def test_what_are_no_snapshots_is_refused(snapshots: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_basis(snapshots, 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_directions_of_mere_rounding_do_not_count(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(2, 300, generator=generator, dtype=torch.float64)
    weights = torch.randn(10, 2, generator=generator, dtype=torch.float64)
    snapshots = (3 + weights @ plane).to(dtype)
    assert fit_basis(snapshots, 2).rank == 2
    message = r"these 10 vary in 2 directions above rounding. Got 3. Either lower `rank` to at most 2, explore longer"
    with pytest.raises(ValueError, match=message):
        fit_basis(snapshots, 3)


def test_a_prompt_that_never_moved_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"vary in 0 directions above rounding. Got 1. Either explore longer, or raise"
    ):
        fit_basis(torch.full((5, 9), 0.3), 1)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.3, math.pi / 4, 1.2, math.pi / 2 - 1e-9, math.pi / 2])
def test_largest_principal_angle_is_exact_at_both_ends(angle: float) -> None:
    axes = torch.eye(4, dtype=torch.float64)
    turned = torch.stack([axes[0], math.cos(angle) * axes[1] + math.sin(angle) * axes[2]])
    found = largest_principal_angle(Subspace(axes[:2], torch.ones(2) / 2), Subspace(turned, torch.ones(2) / 2))
    assert found == pytest.approx(angle, rel=1e-6, abs=1e-12)


def test_angles_need_equal_subspaces() -> None:
    with pytest.raises(ValueError, match="one rank and one length. Got 2 x 4 and 3 x 4"):
        largest_principal_angle(Subspace(torch.eye(4)[:2], torch.zeros(2)), Subspace(torch.eye(4)[:3], torch.zeros(3)))
