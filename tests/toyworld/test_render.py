"""Colours against colorsys, pixels against seeds, and what a domain changes."""

import colorsys
import math
from dataclasses import replace

import pytest
import torch

from subpt_dense.toyworld.concepts import COLOURS, PATTERNS, SHAPES, Concept
from subpt_dense.toyworld.render import (
    DOMAINS,
    Domain,
    Draw,
    _hue_rotation,
    draw_bar,
    draw_clutter,
    draw_ground,
    draw_objects,
    hsv_to_rgb,
    photograph,
    pixel_grid,
)

PLAIN_LIGHT = Domain(light=0, cast=0, contrast=(1, 1), haze=(0, 0), blur=(0, 0), noise=(0, 0))


def objects(concepts, half_size=16.0, seed=0, size=64, domain="src"):
    """One centred object a canvas."""
    n = len(concepts)
    centre = torch.full((n, 2), size / 2)
    half_sizes = torch.full((n,), half_size)
    return draw_objects(Draw(n, seed), torch.tensor(concepts), half_sizes, centre, size, DOMAINS[domain])


def test_hsv_to_rgb_is_colorsys():
    hsv = torch.rand(300, 3, generator=torch.Generator().manual_seed(0))
    hsv[:12, 0] = torch.arange(12) / 12  # the corners too
    expected = torch.tensor([colorsys.hsv_to_rgb(*row) for row in hsv.tolist()])
    torch.testing.assert_close(hsv_to_rgb(*hsv.unbind(1)), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(hsv_to_rgb(hsv[:, 0] + 1, *hsv.unbind(1)[1:]), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(hsv_to_rgb(hsv[:, 0] - 1, *hsv.unbind(1)[1:]), expected, atol=1e-5, rtol=0)


def test_draw_is_all_from_its_seed():
    def numbers(seed):
        draw = Draw(50, seed)
        parts = [draw.uniform(2, 3), draw.normal(2).flatten(), draw.chance(0.3), draw.index(6)]
        return torch.cat([part.float() for part in parts])

    state = torch.get_rng_state()
    assert torch.equal(numbers(1), numbers(1)) and not torch.equal(numbers(1), numbers(2))
    assert torch.equal(torch.get_rng_state(), state)
    uniform = Draw(50, 0).uniform(2, 3)
    assert uniform.shape == (50,) and uniform.min() >= 2 and uniform.max() < 3
    assert Draw(5, 0).normal(3, 2).shape == (5, 3, 2)
    assert {*Draw(200, 0).index(4).tolist()} == {0, 1, 2, 3}
    assert not Draw(50, 0).chance(0).any() and Draw(50, 0).chance(1).all()


def test_pixel_grid_counts_centres():
    x, y = pixel_grid(3)
    assert x[0].tolist() == [0.5, 1.5, 2.5] == y[:, 0].tolist()
    assert torch.equal(x, y.T)


# ---- light -----------------------------------------------------------------------------------------------------------


def test_hue_rotation_keeps_grey_and_composes():
    turns = torch.tensor([0.0, 0.1, 0.25, 1 / 3])
    rotation = _hue_rotation(turns)
    grey = torch.full((3,), 0.4)
    torch.testing.assert_close(rotation @ grey, grey.expand(4, 3))
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(4, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(rotation[1] @ rotation[2], _hue_rotation(torch.tensor([0.35]))[0])
    torch.testing.assert_close(rotation[0], torch.eye(3))
    torch.testing.assert_close(rotation[3] @ torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0]), atol=1e-6, rtol=0)


def test_photograph_in_plain_light_only_rounds():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = photograph(Draw(2, 0), images, PLAIN_LIGHT)
    assert found.dtype == torch.uint8 and torch.equal(found, (images * 255).round().to(torch.uint8))


CHANGES = {
    **{"light": 0.5, "cast": 0.1, "contrast": (0.5, 0.6), "haze": (0.3, 0.4), "blur": (1, 1), "noise": (0.1, 0.1)},
    "hue_filter": (0.2, 0.3),
}


@pytest.mark.parametrize("setting", CHANGES)
def test_each_setting_of_a_domain_is_seen(setting):
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = photograph(Draw(2, 0), images, PLAIN_LIGHT).float()
    changed = replace(PLAIN_LIGHT, **{setting: CHANGES[setting]})
    found = photograph(Draw(2, 0), images, changed).float()
    assert (found - plain).abs().mean() > 3
    if setting in ("contrast", "haze", "blur"):
        assert found.std() < plain.std()


def test_haze_and_contrast_draw_towards_their_greys():
    images = torch.zeros(1, 3, 8, 8)
    hazy = photograph(Draw(1, 0), images, replace(PLAIN_LIGHT, haze=(0.2, 0.2)))
    assert hazy.unique().tolist() == [round(0.2 * 0.75 * 255)]
    flat = photograph(Draw(1, 0), images, replace(PLAIN_LIGHT, contrast=(0.5, 0.5)))
    assert flat.unique().tolist() == [round(0.225 * 255)]


def test_domains_are_three_and_src_is_the_default():
    assert list(DOMAINS) == ["src", "tint", "hue"] and DOMAINS["src"] == Domain()
    assert len(set(DOMAINS.values())) == 3


# ---- objects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_a_plain_object_has_its_colour(colour):
    concept = Concept([*COLOURS].index(colour), PATTERNS.index("plain"), SHAPES.index("circle"))
    image, _ = objects([concept] * 40)
    hues = [colorsys.rgb_to_hsv(*image[i, :, 32, 32].tolist())[0] for i in range(40)]
    away = [abs((hue - COLOURS[colour][0] + 0.5) % 1 - 0.5) for hue in hues]
    assert sorted(away)[20] < 0.03 and sum(away) / 40 < 0.04
    assert image.flatten(2).std(2).max() < 1e-5  # one colour all over


def test_coverage():
    concepts = [Concept(0, 0, shape) for shape in range(len(SHAPES))]
    _, small = objects(concepts, half_size=10)
    _, large = objects(concepts, half_size=20)
    for alpha in (small, large):
        assert alpha.shape == (16, 64, 64) and alpha.min() >= 0 and alpha.max() <= 1
        assert (alpha[:, 0] < 1e-3).all() and (alpha[:, :, -1] < 1e-3).all()  # nothing is cut off
    ratio = (large > 0.5).sum((1, 2)) / (small > 0.5).sum((1, 2))
    assert (ratio - 4).abs().max() < 0.8


def test_an_object_is_where_it_was_put():
    centre = torch.tensor([[20.0, 44.0], [50.0, 15.0]])
    concepts = torch.tensor([[0, 0, SHAPES.index("circle")]] * 2)
    _, alpha = draw_objects(Draw(2, 0), concepts, torch.full((2,), 9.0), centre, 64, DOMAINS["src"])
    x, y = pixel_grid(64)
    weight = alpha / alpha.sum((1, 2), keepdim=True)
    found = torch.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], dim=1)
    torch.testing.assert_close(found, centre, atol=0.1, rtol=0)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern):
    """Plain has one colour; the others two, each on a fair share, with a frame along the outline."""
    image, alpha = objects([Concept(0, PATTERNS.index(pattern), SHAPES.index("square"))] * 8, half_size=24)
    value = image.mean(1)
    for picture, inside in zip(value, alpha > 0.9, strict=True):
        middle = (picture[inside].min() + picture[inside].max()) / 2
        share = (picture[inside] > middle).float().mean()
        if pattern == "plain":
            assert picture[inside].std() < 1e-5
        else:
            assert picture[inside].std() > 0.05 and 0.1 < share < 0.9
        if pattern == "framed":
            assert picture[24:40, 24:40].std() < 0.01


def test_tilt_turns_every_object():
    bar = [Concept(0, 0, SHAPES.index("bar"))] * 200

    def mean_angle(domain):
        _, alpha = objects(bar, domain=domain)
        x, y = (axis - 32 for axis in pixel_grid(64))
        second = [(alpha * product).sum((1, 2)) for product in (x * x, x * y, y * y)]
        return (0.5 * torch.atan2(2 * second[1], second[0] - second[2])).mean()

    assert abs(mean_angle("src")) < 0.08
    assert abs(mean_angle("tint") - mean_angle("src")) == pytest.approx(DOMAINS["tint"].tilt, abs=0.05)
    assert DOMAINS["src"].rotation < math.pi / 4  # a square never passes for a diamond


# ---- what is behind and before the objects ---------------------------------------------------------------------------


def test_grounds_differ_and_repeat():
    ground = torch.arange(6)
    images = draw_ground(Draw(6, 0), 64, ground)
    assert images.shape == (6, 3, 64, 64)
    assert torch.equal(images, draw_ground(Draw(6, 0), 64, ground))
    colours = images.mean((2, 3))
    assert torch.cdist(colours, colours)[~torch.eye(6, dtype=torch.bool)].min() > 0.05


def test_clutter_and_bars():
    images = torch.full((20, 3, 64, 64), 0.5)
    assert draw_clutter(Draw(20, 0), images, blobs=0) is images
    changed = (draw_clutter(Draw(20, 0), images, blobs=6) - images).abs().amax((1, 2, 3)) > 0.02
    assert changed.float().mean() > 0.9
    assert torch.equal(draw_bar(Draw(20, 0), images, probability=0), images)
    barred = (draw_bar(Draw(20, 0), images, probability=1) != images).any(1).float().mean((1, 2))
    assert (barred > 0).all() and (barred < 0.3).all()
