"""Scenes of several objects with boxes, instance masks and semantic maps, in memory; :mod:`build` writes them as
COCO files."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from subpt_dense.toyworld.concepts import GROUNDS, Concept
from subpt_dense.toyworld.render import DOMAINS, Draw, draw_clutter, draw_ground, draw_objects, photograph

SCENE_SIZE = 128
_PATCH = 64  # side of the canvas an object is drawn on
_HALF_SIZES = (13.0, 24.0)  # pixels, the scale the tiny CLIPs know
_OBJECTS = (2, 4)
_BATCH = 50


@dataclass(frozen=True)
class Scene:
    """One image and what is on it.

    Attributes:
        image: uint8 RGB ``[H, W, 3]``.
        labels: Class index of each visible object.
        masks: Its visible pixels, bool ``[H, W]`` each.
        ground: Index into :data:`GROUNDS`.
    """

    image: NDArray[np.uint8]
    labels: list[int]
    masks: list[NDArray[np.bool_]]
    ground: int

    def semantic_map(self, classes: int) -> NDArray[np.uint8]:
        """Class index of every pixel ``[H, W]``; the ground kinds follow the ``classes`` object classes."""
        labels = np.full(self.image.shape[:2], classes + self.ground, dtype=np.uint8)
        for label, mask in zip(self.labels, self.masks, strict=True):
            labels[mask] = label
        return labels


@dataclass(frozen=True)
class _Placed:
    scene: int
    label: int
    half_size: float
    x: int
    y: int


def render_scenes(
    classes: Sequence[Concept], labels: Sequence[int], count: int, seed: int, domain: str = "src"
) -> Iterator[Scene]:
    """Draw ``count`` scenes, each with two to four objects that hardly touch.

    Args:
        classes: Concept of every label.
        labels: Labels that may appear, each as often as the others.
        count: Number of scenes.
        seed: Same arguments, same scenes.
        domain: A key of :data:`DOMAINS`.
    """
    rng, bag = random.Random(seed), _endless_shuffle(random.Random(seed + 1), labels)
    for start in range(0, count, _BATCH):
        n = min(_BATCH, count - start)
        placed = [spot for scene in range(n) for spot in _place(rng, bag, scene)]
        yield from _render_batch(classes, placed, n, seed * 10**6 + start, domain)


def _endless_shuffle(rng: random.Random, labels: Sequence[int]) -> Iterator[int]:
    while True:
        yield from rng.sample(labels, len(labels))


def _place(rng: random.Random, bag: Iterator[int], scene: int) -> list[_Placed]:
    """Objects of one scene; a spot is tried thirty times before the object is left out."""
    placed: list[_Placed] = []
    for _ in range(rng.randint(*_OBJECTS)):
        for _ in range(30):
            half = rng.uniform(*_HALF_SIZES)
            x, y = (rng.randint(math.ceil(half), SCENE_SIZE - math.ceil(half)) for _ in range(2))
            if all(math.hypot(x - other.x, y - other.y) > half + other.half_size for other in placed):
                placed.append(_Placed(scene, next(bag), half, x, y))
                break
    return placed


def _render_batch(
    classes: Sequence[Concept], placed: Sequence[_Placed], count: int, seed: int, domain: str
) -> Iterator[Scene]:
    look, draw = DOMAINS[domain], Draw(count, seed)
    ground = draw.index(len(GROUNDS))
    images = draw_clutter(draw, draw_ground(draw, SCENE_SIZE, ground), blobs=6)

    concepts = torch.tensor([classes[spot.label] for spot in placed])
    half_sizes = torch.tensor([spot.half_size for spot in placed])
    middle = torch.full((len(placed), 2), _PATCH / 2)
    colours, alphas = draw_objects(Draw(len(placed), seed + 1), concepts, half_sizes, middle, _PATCH, look)

    owner = np.zeros((count, SCENE_SIZE, SCENE_SIZE), dtype=np.int32)  # 1 + index of the object that a pixel shows
    for index, spot in enumerate(placed):
        on_image, on_patch = _overlap(spot)
        alpha, target = alphas[index][on_patch], images[spot.scene][(slice(None), *on_image)]
        target += (colours[index][(slice(None), *on_patch)] - target) * alpha
        owner[spot.scene][on_image][(alpha > 0.5).numpy()] = index + 1

    pixels = photograph(draw, images, look).permute(0, 2, 3, 1).numpy()
    for scene in range(count):
        masks = {i: owner[scene] == i + 1 for i, spot in enumerate(placed) if spot.scene == scene}
        masks = {i: mask for i, mask in masks.items() if mask.any()}
        labels = [placed[i].label for i in masks]
        yield Scene(np.ascontiguousarray(pixels[scene]), labels, list(masks.values()), int(ground[scene]))


def _overlap(spot: _Placed) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a patch centred on the spot lies on the image, and which part of the patch that is."""
    image, patch = [], []
    for centre in (spot.y, spot.x):
        low, high = centre - _PATCH // 2, centre + _PATCH // 2
        image.append(slice(max(low, 0), min(high, SCENE_SIZE)))
        patch.append(slice(max(-low, 0), _PATCH - max(high - SCENE_SIZE, 0)))
    return (image[0], image[1]), (patch[0], patch[1])
