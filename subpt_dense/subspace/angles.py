"""How far apart two subspaces are (R, S their ranks)."""

import math

import torch
from torch import Tensor

from subpt_dense.subspace.basis import Subspace


def principal_angles(first: Subspace, second: Subspace) -> Tensor:
    """The principal angles between two subspaces, in radians in [0, pi / 2], rising: ``[min(R, S)]`` float64.

    Each is taken from its sine below pi / 4 and from its cosine above, so that it is exact to rounding at both ends
    (Björck and Golub, Mathematics of Computation 27, 1973).

    Raises:
        ValueError: If the lengths differ.
    """
    if first.length != second.length:
        raise ValueError(f"Both subspaces must have one length. Got {first.length} and {second.length}.")
    wide, narrow = (first, second) if first.rank >= second.rank else (second, first)
    other = narrow.basis.to(wide.basis)
    overlap = other @ wide.basis.T  # [min, max]
    cosines = torch.linalg.svdvals(overlap).clamp(max=1)  # falling
    sines = torch.linalg.svdvals(other - overlap @ wide.basis).flip(0).clamp(max=1)  # rising
    return torch.where(sines < math.sqrt(0.5), sines.asin(), cosines.acos())


def largest_principal_angle(first: Subspace, second: Subspace) -> float:
    """The largest principal angle between two subspaces of equal rank, in radians in [0, pi / 2].

    Raises:
        ValueError: If the ranks or the lengths differ.
    """
    if (first.rank, first.length) != (second.rank, second.length):
        raise ValueError(
            f"Both subspaces must have one rank and one length. Got {first.rank} x {first.length} and "
            f"{second.rank} x {second.length}."
        )
    return principal_angles(first, second)[-1].item()
