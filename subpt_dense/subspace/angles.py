"""How far apart two subspaces are."""

import math

import torch

from subpt_dense.subspace.basis import Subspace


def largest_principal_angle(first: Subspace, second: Subspace) -> float:
    """The largest principal angle between two subspaces of equal rank, in radians in [0, pi / 2].

    Below pi / 4 it is taken from the sine, above from the cosine, so that it is exact to rounding at both ends.

    Raises:
        ValueError: If the ranks or the lengths differ.
    """
    if (first.rank, first.length) != (second.rank, second.length):
        raise ValueError(
            f"Both subspaces must have one rank and one length. Got {first.rank} x {first.length} and "
            f"{second.rank} x {second.length}."
        )
    other = second.basis.to(first.basis)
    overlap = other @ first.basis.T  # [R, R]
    sine = torch.linalg.matrix_norm(other - overlap @ first.basis, ord=2).item()
    if sine < math.sqrt(0.5):
        return math.asin(sine)
    cosine = torch.linalg.svdvals(overlap)[-1].item()
    return math.acos(min(cosine, 1.0))
