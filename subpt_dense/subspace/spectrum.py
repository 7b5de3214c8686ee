"""How the variance of a trajectory is spread over directions (n snapshots, P numbers each)."""

import torch
from torch import Tensor


def spectrum(snapshots: Tensor) -> Tensor:
    """Shares of the variance along the principal directions ``[n - 1]``, falling, float64; they sum to 1.

    All zeros where the snapshots do not vary. Directions beyond P have share 0.

    Args:
        snapshots: ``[n, P]`` in any floating dtype, n >= 2.

    Raises:
        ValueError: If the shape or the dtype is another.
    """
    if snapshots.ndim != 2 or snapshots.shape[0] < 2 or not snapshots.is_floating_point():
        raise ValueError(
            "`snapshots` must have shape [n, P] with n >= 2 and a floating dtype. "
            f"Got {list(snapshots.shape)} of {snapshots.dtype}."
        )
    exact = snapshots.detach().to(torch.float64)
    centred = exact - exact.mean(dim=0)
    values = torch.linalg.eigvalsh(centred @ centred.T).flip(0)[:-1].clamp(min=0)
    total = values.sum()
    return values / total if total > 0 else torch.zeros_like(values)
