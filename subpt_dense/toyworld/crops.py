"""Classification crops: one object on each 64×64 image."""

import torch
from torch import Tensor

from subpt_dense.toyworld.concepts import GROUNDS
from subpt_dense.toyworld.render import DOMAINS, Draw, draw_bar, draw_clutter, draw_ground, draw_objects, photograph

CROP_SIZE = 64


def render_crops(concepts: Tensor, seed: int, domain: str = "src", ground: Tensor | None = None) -> Tensor:
    """Crops of the given concepts.

    Args:
        concepts: Colour, pattern and shape indices, int64 ``[N, 3]``.
        seed: Same seed and concepts, same pixels.
        domain: A key of :data:`DOMAINS`.
        ground: Kinds of ground, int64 ``[N]``; drawn when ``None``.

    Returns:
        uint8 RGB ``[N, 3, 64, 64]``.
    """
    draw, look = Draw(len(concepts), seed), DOMAINS[domain]
    drawn = draw.index(len(GROUNDS))
    images = draw_clutter(draw, draw_ground(draw, CROP_SIZE, drawn if ground is None else ground), blobs=3)
    half_size = CROP_SIZE * draw.uniform(0.24, 0.44)
    centre = CROP_SIZE * (0.5 + torch.stack([draw.uniform(-0.1, 0.1), draw.uniform(-0.1, 0.1)], dim=1))
    colour, alpha = draw_objects(draw, concepts, half_size, centre, CROP_SIZE, look)
    images = images + (colour - images) * alpha[:, None]
    return photograph(draw, draw_bar(draw, images, probability=0.1), look)
