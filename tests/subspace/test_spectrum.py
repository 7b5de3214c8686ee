"""Shares of variance and principal angles against full decompositions and known geometry."""

import math

import pytest
import torch

from subpt_dense.subspace import Subspace, fit_basis, principal_angles, spectrum


def rows(rank: int, length: int, seed: int) -> Subspace:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(length, rank, generator=generator, dtype=torch.float64)).Q.T
    return Subspace(basis, torch.full((rank,), 1 / rank))


@pytest.mark.parametrize(("count", "length"), [(2, 5), (12, 64), (20, 6)])
def test_spectrum_equals_that_of_a_full_svd(count: int, length: int) -> None:
    generator = torch.Generator().manual_seed(count)
    snapshots = torch.randn(count, length, generator=generator, dtype=torch.float64).cumsum(0)
    values = torch.linalg.svdvals(snapshots - snapshots.mean(0)) ** 2
    expected = torch.zeros(count - 1, dtype=torch.float64)
    expected[: min(count - 1, length)] = (values / values.sum())[: count - 1]
    found = spectrum(snapshots)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    rank = min(3, count - 1)
    torch.testing.assert_close(found[:rank], fit_basis(snapshots, rank).explained, rtol=0, atol=1e-12)


def test_spectrum_of_what_stands_still() -> None:
    assert spectrum(torch.ones(4, 3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("snapshots", [torch.ones(3), torch.ones(1, 3), torch.ones(3, 3, dtype=torch.long)])
def test_spectrum_refuses(snapshots: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"`snapshots` must have shape \[n, P\] with n >= 2 and a floating dtype"):
        spectrum(snapshots)


@pytest.mark.parametrize("angles", [(0.0, 1e-9, 0.3), (1e-12, 1.0, math.pi / 2)])
def test_angles_of_known_subspaces(angles: tuple[float, ...]) -> None:
    """Plane k turns axis k towards axis 3 + k by the k-th angle; then both are turned together."""
    basis = torch.zeros(3, 8, dtype=torch.float64)
    for k, angle in enumerate(angles):
        basis[k, k], basis[k, 3 + k] = math.cos(angle), math.sin(angle)
    turn = rows(8, 8, 0).basis
    axes = torch.eye(8, dtype=torch.float64)[:3]
    ones = torch.full((3,), 1 / 3)
    found = principal_angles(Subspace(axes @ turn, ones), Subspace(basis @ turn, ones))
    torch.testing.assert_close(found, torch.tensor(angles, dtype=torch.float64), rtol=1e-9, atol=1e-14)


def test_angles_of_unequal_ranks() -> None:
    """A part of a subspace lies in it; the order does not matter; what is orthogonal is at a right angle."""
    whole = rows(5, 20, 1)
    part = Subspace(whole.basis[1:3], torch.ones(2) / 2)
    other = rows(3, 20, 2)
    assert principal_angles(whole, part).max() < 1e-12 and len(principal_angles(part, whole)) == 2
    torch.testing.assert_close(principal_angles(whole, other), principal_angles(other, whole))
    apart = Subspace(whole.basis[3:], torch.ones(2) / 2)
    torch.testing.assert_close(principal_angles(part, apart), torch.full((2,), math.pi / 2, dtype=torch.float64))


def test_angles_refuse_other_lengths() -> None:
    with pytest.raises(ValueError, match=r"must have one length\. Got 20 and 21\."):
        principal_angles(rows(2, 20, 0), rows(2, 21, 0))
