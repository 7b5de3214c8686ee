"""What is on a scene, against the masks and maps it comes with."""

import colorsys
from collections import Counter

import numpy as np
import pytest

from subpt_dense.toyworld import scenes
from subpt_dense.toyworld.concepts import COLOURS, GROUNDS, PATTERNS, SHAPES, Concept, class_split
from subpt_dense.toyworld.scenes import SCENE_SIZE, Scene, render_scenes

BASE, NOVEL = class_split(0)
CLASSES = [*BASE, *NOVEL]


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return list(render_scenes(CLASSES, range(48), 30, seed=1))


def test_pictures(drawn):
    assert len(drawn) == 30
    for scene in drawn:
        assert scene.image.shape == (SCENE_SIZE, SCENE_SIZE, 3) and scene.image.dtype == np.uint8
        assert scene.image.flags.c_contiguous and scene.image.std() > 5
    assert {scene.ground for scene in drawn} == {*range(len(GROUNDS))}


def test_objects(drawn):
    counts = Counter(len(scene.labels) for scene in drawn)
    assert {*counts} <= {2, 3, 4} and counts[2] < 30
    for scene in drawn:
        assert len(scene.masks) == len(scene.labels) and {*scene.labels} <= {*range(48)}
        assert all(mask.dtype == bool and mask.shape == (SCENE_SIZE, SCENE_SIZE) for mask in scene.masks)
        assert np.sum(scene.masks, axis=0).max() <= 1  # disjoint
        for mask in scene.masks:
            rows, columns = np.nonzero(mask)
            assert 5 < np.ptp(rows) < 56 and 5 < np.ptp(columns) < 56 and mask.sum() > 60


def test_every_label_is_as_frequent_as_the_others():
    counts = Counter(label for scene in render_scenes(CLASSES, range(6), 20, seed=2) for label in scene.labels)
    assert {*counts} == {*range(6)} and max(counts.values()) - min(counts.values()) <= 1


def test_semantic_map(drawn):
    for scene in drawn[:8]:
        found = scene.semantic_map(65)
        assert found.dtype == np.uint8 and found.shape == (SCENE_SIZE, SCENE_SIZE)
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            assert (found[mask] == label).all()
        assert (found[~np.any(scene.masks, axis=0)] == 65 + scene.ground).all()


def test_masks_show_what_their_label_says():
    plain = [Concept(colour, PATTERNS.index("plain"), SHAPES.index("circle")) for colour in range(len(COLOURS))]
    hues = np.array([hue for hue, *_ in COLOURS.values()])
    right = []
    for scene in render_scenes(plain, range(len(plain)), 30, seed=3):
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            hue, *_ = colorsys.rgb_to_hsv(*(np.median(scene.image[mask], axis=0) / 255))
            right.append(np.abs((hue - hues + 0.5) % 1 - 0.5).argmin() == label)
    assert np.mean(right) > 0.85


def test_same_arguments_same_scenes(drawn):
    again = list(render_scenes(CLASSES, range(48), 30, seed=1))
    assert all(np.array_equal(a.image, b.image) and a.labels == b.labels for a, b in zip(drawn, again, strict=True))
    two = next(render_scenes(CLASSES, range(48), 2, seed=1))
    tinted = next(render_scenes(CLASSES, range(48), 2, seed=1, domain="tint"))
    other = next(render_scenes(CLASSES, range(48), 2, seed=2))
    assert not np.array_equal(two.image, tinted.image) and two.labels == tinted.labels
    assert not np.array_equal(two.image, other.image)


@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_any_count_over_batches(monkeypatch, count):
    monkeypatch.setattr(scenes, "_BATCH", 2)
    drawn = list(render_scenes(CLASSES, range(65), count, seed=4))
    assert len(drawn) == count
    assert len({scene.image.tobytes() for scene in drawn}) == count  # no batch repeats another
