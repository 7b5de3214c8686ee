"""The basis of a training trajectory: centred PCA of its snapshots (n snapshots, P numbers each, R rank)."""

import torch
from torch import Tensor

from subpt_dense.subspace.basis import Subspace

#: Below this share of the largest eigenvalue a float64 Gram matrix holds nothing but its own rounding.
_GRAM_FLOOR = 1e-12


def fit_basis(snapshots: Tensor, rank: int) -> Subspace:
    """The ``rank`` directions in which the snapshots vary most.

    Centred PCA by eigendecomposition of the centred n x n Gram matrix in float64 (never P x P, never float32), then one
    QR step that makes the rows orthonormal to rounding without changing their span.

    Args:
        snapshots: ``[n, P]`` in any floating dtype, n >= 2. The dtype tells how coarsely they were rounded: a direction
            no larger than that rounding does not count.
        rank: Number of directions, in [1, min(n - 1, P)]: centring takes one degree of freedom.

    Returns:
        The subspace on the snapshots' device, rows by falling variance; ``explained`` are shares of the whole variance.

    Raises:
        ValueError: If a shape, the rank or a value is off, or if fewer than ``rank`` directions rise above rounding.

    Source: method of arXiv 2211.02219, which takes the PCA of early snapshots; the Gram form is this project's.
    """
    if snapshots.ndim != 2 or snapshots.shape[0] < 2 or not snapshots.is_floating_point():
        raise ValueError(
            "`snapshots` must have shape [n, P] with n >= 2 and a floating dtype. "
            f"Got {list(snapshots.shape)} of {snapshots.dtype}."
        )
    count, length = snapshots.shape
    highest = min(count - 1, length)
    if not 1 <= rank <= highest:
        of_length = f" of {length} numbers" if length < count - 1 else ""
        raise ValueError(f"`rank` must be in [1, {highest}] for {count} snapshots{of_length}. Got {rank}.")
    if not bool(torch.isfinite(snapshots).all()):
        rows = (~torch.isfinite(snapshots)).any(dim=1).nonzero().flatten().tolist()
        raise ValueError(f"`snapshots` must be finite: did the training diverge? Got NaN or inf in rows {rows}.")

    exact = snapshots.detach().to(torch.float64)
    centred = exact - exact.mean(dim=0)  # [n, P]
    values, vectors = torch.linalg.eigh(centred @ centred.T)  # rising
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)

    rounding = torch.finfo(snapshots.dtype).eps * exact.norm(dim=1).max()
    floor = torch.maximum(_GRAM_FLOOR * values[0], rounding**2)
    numerical_rank = int((values > floor).sum())
    if numerical_rank < rank:
        advice = f"lower `rank` to at most {numerical_rank}, explore longer" if numerical_rank else "explore longer"
        raise ValueError(
            f"`rank` must be at most the numerical rank of the snapshots: these {count} vary in {numerical_rank} "
            f"directions above rounding. Got {rank}. Either {advice}, or raise the learning rate of the prompt."
        )
    rows = (vectors[:, :rank].T @ centred) / values[:rank, None].sqrt()  # [R, P]
    orthonormal, triangle = torch.linalg.qr(rows.T)
    signs = torch.where(triangle.diagonal() < 0, -1.0, 1.0).to(orthonormal)
    return Subspace((orthonormal * signs).T.contiguous(), values[:rank] / values.sum())
