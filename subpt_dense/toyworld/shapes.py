"""Signed distances of the sixteen shapes: negative inside, in units of the object's half-size."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from subpt_dense.toyworld.concepts import SHAPES


def _radius(u: Tensor, v: Tensor) -> Tensor:
    return torch.sqrt(u * u + v * v + 1e-9)


def _box(u: Tensor, v: Tensor, half_width: float, half_height: float) -> Tensor:
    return torch.maximum(u.abs() - half_width, v.abs() - half_height)


def _polygon(u: Tensor, v: Tensor, sides: int) -> Tensor:
    """Regular polygon with unit circumradius."""
    sector = 2 * math.pi / sides
    angle = torch.remainder(torch.atan2(u, -v), sector) - sector / 2
    return _radius(u, v) * torch.cos(angle) - math.cos(math.pi / sides)


def _star(u: Tensor, v: Tensor) -> Tensor:
    sector = 2 * math.pi / 5
    towards_tip = (torch.remainder(torch.atan2(u, -v), sector) - sector / 2).abs() / (sector / 2)
    return 0.6 * (_radius(u, v) - 0.42 - 0.6 * towards_tip**1.3)


def _cross(u: Tensor, v: Tensor) -> Tensor:
    return torch.minimum(_box(u, v, 0.3, 0.95), _box(u, v, 0.95, 0.3))


def _heart(u: Tensor, v: Tensor) -> Tensor:
    lobes = _radius(u.abs() - 0.4, v + 0.3) - 0.47
    point = torch.maximum(0.7 * (1.1 * u.abs() + 0.9 * (v + 0.05) - 0.75), -(v + 0.26))
    return torch.minimum(lobes, point)


def _arrow(u: Tensor, v: Tensor) -> Tensor:
    head = torch.maximum(v.abs() + 0.85 * (u - 1.0), 0.05 - u)
    shaft = torch.maximum(v.abs() - 0.26, torch.maximum(u - 0.1, -u - 0.95))
    return torch.minimum(head, shaft)


_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": lambda u, v: _radius(u, v) - 0.9,
    "square": lambda u, v: _box(u, v, 0.76, 0.76),
    "triangle": lambda u, v: _polygon(u, -v, 3) - 0.08,
    "diamond": lambda u, v: 0.55 * (u.abs() / 0.62 + v.abs() - 1),
    "star": _star,
    "cross": _cross,
    "ring": lambda u, v: (_radius(u, v) - 0.7).abs() - 0.24,
    "heart": _heart,
    "crescent": lambda u, v: torch.maximum(_radius(u, v) - 0.95, 0.75 - _radius(u - 0.45, v)),
    "hexagon": lambda u, v: _polygon(u, v, 6) - 0.04,
    "arrow": _arrow,
    "bar": lambda u, v: _box(u, v, 1.0, 0.3),
    "dome": lambda u, v: torch.maximum(_radius(u, v - 0.35) - 0.95, v - 0.35),
    "flower": lambda u, v: 0.6 * (_radius(u, v) - 0.68 - 0.28 * torch.cos(5 * torch.atan2(u, -v))),
    "hourglass": lambda u, v: torch.maximum(u.abs() - 0.85 * v.abs() - 0.12, v.abs() - 0.85),
    "oval": lambda u, v: 0.6 * (_radius(u, v / 0.55) - 1),
}


def signed_distance(shape: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Distances of a batch of shapes.

    Args:
        shape: Indices into :data:`SHAPES`, int64 ``[N]``.
        u: Horizontal object coordinates ``[N, H, W]``, in half-sizes.
        v: Vertical ones, downwards.

    Returns:
        ``[N, H, W]``, negative inside the shape.
    """
    distance = torch.empty_like(u)
    for index in shape.unique().tolist():
        rows = shape == index
        distance[rows] = _DISTANCES[SHAPES[index]](u[rows], v[rows])
    return distance
