"""The paper's analysis of a trajectory: spread, directions, gradients (n epochs, P prompt numbers, R rank)."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from subpt_dense.evaluation.trajectory import Trajectory
from subpt_dense.subspace import Subspace, fit_basis, principal_angles, spectrum


def gradient_flow(trajectory: Trajectory, *, early: int, rank: int) -> dict[str, Any]:
    """How much of a run happens in the subspace of its first epochs.

    The early subspace is that of the first ``early`` epochs: of the exploring pass, where there is one.

    Args:
        trajectory: With a training pass of more than ``early`` epochs, every epoch recorded.
        early: Epochs that count as early, >= 2.
        rank: R, directions of the early subspace, in [1, early - 1].

    Returns:
        Plain numbers. ``epochs``: of the training pass, from 1. ``explained``: cumulative shares of variance of the
        ``early`` epochs and of the ``whole`` training pass, by number of directions. ``windows``: for consecutive
        windows of ``early`` epochs of the training pass ``first`` and ``last`` epoch and ``angles``, the principal
        angles to the early subspace in degrees, rising; fewer than R where a window hardly moves. ``inside``: by epoch
        the share ``|U g|^2 / |g|^2`` of the mean gradient (before any projection). ``moved_inside``: that share
        of the displacement since epoch 1, None at epoch 1. ``steps_inside``: the share recorded step by step, in the
        run's own subspace, None where it had none. ``chance``: R / P, that of a random direction. ``gradient_norm``.

    Raises:
        ValueError: If ``early`` or ``rank`` is out of range, or the early snapshots vary in fewer directions.

    Source: the analysis of arXiv 2211.02219, section 3; the windows are this project's.
    """
    explored, trained = trajectory.of_phase("explore"), trajectory.of_phase("train")
    first = explored if len(explored) >= early else trained
    if not 2 <= early < len(trained):
        raise ValueError(
            f"`early` of gradient_flow must be in [2, {len(trained) - 1}] for {len(trained)} training epochs. "
            f"Got {early}."
        )
    subspace = fit_basis(first.parameters[:early], rank)
    origin = trained.parameters[0].double()
    moves = trained.parameters.double() - origin
    steps = [None if math.isnan(share) else share for share in trained.inside.tolist()]
    return {
        "epochs": list(range(1, len(trained) + 1)),
        "explained": {
            "early": spectrum(first.parameters[:early]).cumsum(0).tolist(),
            "whole": spectrum(trained.parameters).cumsum(0).tolist(),
        },
        "windows": [_window(trained.parameters, start, early, subspace) for start in _starts(len(trained), early)],
        "inside": [_share(subspace, gradient) for gradient in trained.gradients],
        "moved_inside": [_share(subspace, move) for move in moves],
        "steps_inside": None if None in steps else steps,
        "chance": rank / subspace.length,
        "gradient_norm": trained.gradients.norm(dim=1).tolist(),
        "early": early,
        "rank": rank,
    }


def plane(trajectories: Mapping[str, Trajectory]) -> dict[str, Any]:
    """The training passes of several runs in the plane in which they vary most, together.

    Args:
        trajectories: By name, of equal parameters.

    Returns:
        ``shares``: of the variance along both axes. ``runs``: by name the points ``[n, 2]``, one an epoch.

    Raises:
        ValueError: If they are of other parameters, or do not move.
    """
    shapes = {name: trajectory.shapes for name, trajectory in trajectories.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"Trajectories in one plane must be of the same parameters, at least one. Got {shapes}.")
    points = {name: trajectory.of_phase("train").parameters for name, trajectory in trajectories.items()}
    union = torch.cat(list(points.values()))
    subspace = fit_basis(union, 2)
    centre = union.double().mean(dim=0)
    runs = {name: ((rows.double() - centre) @ subspace.basis.T).tolist() for name, rows in points.items()}
    return {"shares": subspace.explained.tolist(), "runs": runs}


def _starts(count: int, size: int) -> range:
    return range(0, count - size + 1, size)


def _window(parameters: Tensor, start: int, size: int, early: Subspace) -> dict[str, Any]:
    rows = parameters[start : start + size]
    angles = []
    for rank in range(early.rank, 0, -1):
        try:
            angles = principal_angles(early, fit_basis(rows, rank)).rad2deg().tolist()
            break
        except ValueError:  # fewer directions above rounding: the learning rate is small by then
            continue
    return {"first": start + 1, "last": start + size, "angles": angles}


def _share(subspace: Subspace, vector: Tensor) -> float | None:
    exact = vector.double()
    whole = (exact @ exact).item()
    return (subspace.keep(exact).norm() ** 2).item() / whole if whole else None
