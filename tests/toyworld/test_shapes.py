"""Signed distances against closed forms, and what every shape has."""

from itertools import combinations

import pytest
import torch

from subpt_dense.toyworld.concepts import SHAPES
from subpt_dense.toyworld.shapes import signed_distance

AXIS = torch.linspace(-1.5, 1.5, 121)
V, U = torch.meshgrid(AXIS, AXIS, indexing="ij")

CLOSED_FORMS = {
    "circle": lambda u, v: u.square() + v.square() < 0.9**2,
    "square": lambda u, v: (u.abs() < 0.76) & (v.abs() < 0.76),
    "diamond": lambda u, v: u.abs() / 0.62 + v.abs() < 1,
    "cross": lambda u, v: (torch.minimum(u.abs(), v.abs()) < 0.3) & (torch.maximum(u.abs(), v.abs()) < 0.95),
    "ring": lambda u, v: (u.hypot(v) > 0.46) & (u.hypot(v) < 0.94),
    "crescent": lambda u, v: (u.hypot(v) < 0.95) & ((u - 0.45).hypot(v) > 0.75),
    "bar": lambda u, v: (u.abs() < 1) & (v.abs() < 0.3),
    "dome": lambda u, v: (u.hypot(v - 0.35) < 0.95) & (v < 0.35),
    "hourglass": lambda u, v: (u.abs() < 0.85 * v.abs() + 0.12) & (v.abs() < 0.85),
    "oval": lambda u, v: u.square() + (v / 0.55).square() < 1,
}
# One point inside and one outside that tell which way up a shape is; v points down.
ORIENTED = {
    "triangle": ((0.0, 0.9), (0.0, -0.9)),
    "arrow": ((0.9, 0.0), (-0.98, 0.0)),
    "heart": ((0.0, 0.5), (0.0, -0.7)),
    "star": ((0.0, -0.9), (0.0, 0.9)),
    "dome": ((0.0, -0.5), (0.0, 0.5)),
    "flower": ((0.0, -0.9), (0.0, 0.9)),
    "hexagon": ((0.0, -0.95), (0.95, 0.0)),
    "crescent": ((-0.7, 0.0), (0.7, 0.0)),
}


def distance(shape: str) -> torch.Tensor:
    return signed_distance(torch.tensor([SHAPES.index(shape)]), U[None], V[None])[0]


@pytest.mark.parametrize("shape", CLOSED_FORMS)
def test_closed_form(shape):
    found, expected = distance(shape) < 0, CLOSED_FORMS[shape](U, V)
    near = distance(shape).abs() < 1e-4  # rounding decides on the outline itself
    assert torch.equal(found[~near], expected[~near])


def test_circle_and_square_distances():
    torch.testing.assert_close(distance("circle"), U.hypot(V) - 0.9, atol=1e-4, rtol=0)
    torch.testing.assert_close(distance("square"), torch.maximum(U.abs(), V.abs()) - 0.76)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_an_inside_and_stays_within_its_patch(shape):
    inside = distance(shape) < 0
    assert 0.15 < inside.float().mean() * (3 / 2) ** 2 < 0.75  # share of [-1, 1]²
    for stretch in (0.88, 1.14):  # scenes draw half-sizes of up to 24 px, stretched, on patches of 64 px
        assert (U / stretch).hypot(V * stretch)[inside].max() < 32 / 24
    assert torch.isfinite(distance(shape)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_near_the_outline_are_true_to_scale(shape):
    """The renderer's soft edge and the framed pattern's rim count in pixels."""
    field, step = distance(shape), AXIS[1] - AXIS[0]
    du, dv = (torch.gradient(field, spacing=float(step), dim=dim)[0] for dim in (1, 0))
    slope = du.hypot(dv)[field.abs() < 0.05]
    assert 0.4 < slope.median() < 1.6


@pytest.mark.parametrize("shape", ORIENTED)
def test_orientation(shape):
    points = torch.tensor(ORIENTED[shape])[:, :, None, None]
    index = torch.full((2,), SHAPES.index(shape))
    inside, outside = signed_distance(index, points[:, 0], points[:, 1]).flatten()
    assert inside < 0 < outside


@pytest.mark.parametrize("shape", sorted({*SHAPES} - {"arrow", "crescent"}))
def test_mirror_symmetry(shape):
    assert torch.allclose(distance(shape), distance(shape).flip(1), atol=1e-3)


def test_shapes_are_told_apart():
    masks = {shape: distance(shape) < 0 for shape in SHAPES}
    for a, b in combinations(SHAPES, 2):
        assert (masks[a] & masks[b]).sum() < 0.95 * (masks[a] | masks[b]).sum(), (a, b)


def test_a_batch_equals_its_parts():
    shapes = torch.tensor([3, 0, 15, 3])
    u = torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(0))
    v = u.roll(1, 0)
    batch = signed_distance(shapes, u, v)
    parts = [signed_distance(shapes[i : i + 1], u[i : i + 1], v[i : i + 1])[0] for i in range(4)]
    assert torch.equal(batch, torch.stack(parts))
    assert signed_distance(shapes[:0], u[:0], v[:0]).shape == (0, 5, 7)
