"""Pixels of the toy world, drawn in batches: ground, clutter, objects, light. N images, H×W pixels, RGB in [0, 1]."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from subpt_dense.toyworld.concepts import COLOURS, GROUNDS
from subpt_dense.toyworld.shapes import signed_distance

_COLOUR_HSV = torch.tensor(list(COLOURS.values()))
_GROUND_HSV = torch.tensor(list(GROUNDS.values()))


@dataclass(frozen=True)
class Domain:
    """What varies from image to image. Pairs are ranges of uniform draws; the defaults are the domain the tiny CLIPs
    know."""

    rotation: float = 0.6  # radians, either way
    tilt: float = 0.0  # radians, added to every object
    hue_filter: tuple[float, float] = (0.0, 0.0)  # turns of the colour wheel, the whole image
    light: float = 0.25
    cast: float = 0.08
    contrast: tuple[float, float] = (0.75, 1.1)
    haze: tuple[float, float] = (0.0, 0.1)
    blur: tuple[float, float] = (0.0, 0.7)
    noise: tuple[float, float] = (0.0, 0.05)


#: ``tint`` and ``hue`` are shifts the tiny CLIPs were not trained on.
DOMAINS = {
    "src": Domain(),
    "tint": Domain(hue_filter=(0.02, 0.06), tilt=0.25, contrast=(0.7, 1.0)),
    "hue": Domain(hue_filter=(0.05, 0.09), contrast=(0.6, 1.0)),
}


class Draw:
    """Random numbers of one batch of ``n`` images, all from one generator."""

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float) -> Tensor:
        """``[n]`` in [low, high)."""
        return torch.rand(self.n, generator=self.generator) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """``[n, *shape]`` standard normal."""
        return torch.randn(self.n, *shape, generator=self.generator)

    def chance(self, probability: float) -> Tensor:
        """``[n]`` booleans."""
        return torch.rand(self.n, generator=self.generator) < probability

    def index(self, high: int) -> Tensor:
        """``[n]`` integers in [0, high)."""
        return torch.randint(high, (self.n,), generator=self.generator)


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """``[...]`` each in [0, 1] (the hue wraps) to ``[..., 3]``."""
    k = (torch.tensor([5.0, 3.0, 1.0]) + 6 * (hue % 1.0)[..., None]) % 6
    ramp = torch.minimum(k, 4 - k).clamp(0, 1)
    return value[..., None] * (1 - saturation[..., None] * ramp)


def _image(x: Tensor) -> Tensor:
    """Per-image numbers ``[n]`` or ``[n, 3]`` shaped to multiply ``[n, 3, H, W]``."""
    return x[:, None, None, None] if x.ndim == 1 else x[:, :, None, None]


def _map(x: Tensor) -> Tensor:
    """Per-image numbers ``[n]`` shaped to multiply ``[n, H, W]``."""
    return x[:, None, None]


def pixel_grid(size: int) -> tuple[Tensor, Tensor]:
    """Pixel centres ``(x, y)``, each ``[size, size]``, in pixels."""
    axis = torch.arange(size) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x, y


def draw_ground(draw: Draw, size: int, ground: Tensor) -> Tensor:
    """Textured ground ``[n, 3, size, size]`` of the kinds ``ground`` (int64 ``[n]``)."""
    hsv = _GROUND_HSV[ground] + draw.normal(3) * torch.tensor([0.03, 0.08, 0.08])
    colour = hsv_to_rgb(hsv[:, 0], hsv[:, 1].clamp(0, 1), hsv[:, 2].clamp(0.05, 1))

    def field(cells: int) -> Tensor:
        return nn.functional.interpolate(
            draw.normal(1, cells, cells), size=(size, size), mode="bicubic", align_corners=False
        )

    texture = 0.6 * field(size // 16) + 0.5 * field(size // 4)
    return _image(colour) + texture * _image(0.1 * draw.uniform(0.4, 1.4))


def draw_clutter(draw: Draw, images: Tensor, blobs: int) -> Tensor:
    """Up to ``blobs`` small discs and boxes of any colour on each image."""
    size = images.shape[-1]
    x, y = pixel_grid(size)
    for _ in range(blobs):
        colour = hsv_to_rgb(draw.uniform(0, 1), draw.uniform(0.1, 0.9), draw.uniform(0.2, 0.95))
        dx, dy = x - _map(draw.uniform(0, size)), y - _map(draw.uniform(0, size))
        angle = draw.uniform(0, math.pi)
        cos, sin = _map(angle.cos()), _map(angle.sin())
        u = (dx * cos + dy * sin) / _map(draw.uniform(2.5, 8))
        v = (dy * cos - dx * sin) / _map(draw.uniform(2.5, 8))
        boxy = _map(draw.chance(0.5))
        distance = torch.where(boxy, torch.maximum(u.abs(), v.abs()), torch.sqrt(u * u + v * v + 1e-9)) - 1
        alpha = (torch.sigmoid(-8 * distance) * _map(draw.chance(0.6).float()))[:, None]
        images = images * (1 - alpha) + _image(colour) * alpha
    return images


def draw_objects(
    draw: Draw, concepts: Tensor, half_size: Tensor, centre: Tensor, size: int, domain: Domain
) -> tuple[Tensor, Tensor]:
    """One object on each of ``n`` canvases.

    Args:
        draw: Random numbers for ``n`` objects.
        concepts: Colour, pattern and shape indices, int64 ``[n, 3]``.
        half_size: ``[n]`` in pixels.
        centre: ``[n, 2]`` as (x, y) in pixels.
        size: Side of the square canvas in pixels.
        domain: Supplies rotation and tilt.

    Returns:
        Colours ``[n, 3, size, size]`` and coverage ``[n, size, size]`` in [0, 1].
    """
    colour, pattern, shape = concepts.unbind(1)
    x, y = pixel_grid(size)
    dx, dy = (x - _map(centre[:, 0])) / _map(half_size), (y - _map(centre[:, 1])) / _map(half_size)
    angle = draw.uniform(-domain.rotation, domain.rotation) + domain.tilt
    aspect = _map(draw.uniform(0.88, 1.14))
    u = (dx * _map(angle.cos()) + dy * _map(angle.sin())) * aspect
    v = (dy * _map(angle.cos()) - dx * _map(angle.sin())) / aspect
    distance = signed_distance(shape, u, v)

    hue, saturation, value = _COLOUR_HSV[colour].unbind(1)
    saturation = (saturation + draw.uniform(-0.15, 0.12)).clamp(0, 1) * (1 - draw.uniform(0, 0.15))
    value = (value + draw.uniform(-0.18, 0.1)).clamp(0.1, 1)
    first = hsv_to_rgb(hue + 0.025 * draw.normal(), saturation, value)
    second = torch.where(draw.chance(0.5)[:, None], 0.3 * first, 0.25 * first + 0.75)

    mix = _pattern(draw, pattern, u, v, distance * _map(half_size))[:, None]
    return _image(first) * (1 - mix) + _image(second) * mix, torch.sigmoid(-1.6 * distance * _map(half_size))


def _pattern(draw: Draw, pattern: Tensor, u: Tensor, v: Tensor, distance: Tensor) -> Tensor:
    """Share of the second colour ``[n, H, W]``: plain, striped, dotted, checkered, framed."""
    frequency, phase = _map(draw.uniform(3.0, 4.6)), _map(draw.uniform(0, 2 * math.pi))
    stripes = torch.sigmoid(6 * torch.sin(1.7 * frequency * u + phase))
    dots = torch.sigmoid(6 * (torch.cos(1.9 * frequency * u + phase) + torch.cos(1.9 * frequency * v + phase) - 0.75))
    checks = torch.sigmoid(18 * torch.sin(1.5 * frequency * u + phase) * torch.sin(1.5 * frequency * v + phase))
    frame = torch.sigmoid(1.2 * distance + 4.0)  # a rim of some three pixels, whatever the object's size
    layers = torch.stack([torch.zeros_like(u), stripes, dots, checks, frame])
    return layers[pattern, torch.arange(len(pattern))]


def draw_bar(draw: Draw, images: Tensor, probability: float) -> Tensor:
    """A straight bar across some of the images, in front of everything."""
    size = images.shape[-1]
    x, y = pixel_grid(size)
    angle = draw.uniform(0, math.pi)
    offset = (x / size - 0.5) * _map(angle.cos()) + (y / size - 0.5) * _map(angle.sin()) - _map(draw.uniform(-0.3, 0.3))
    inside = (offset.abs() < _map(draw.uniform(0.03, 0.07))) & _map(draw.chance(probability))
    colour = hsv_to_rgb(draw.uniform(0, 1), draw.uniform(0, 0.5), draw.uniform(0.1, 0.9))
    return torch.where(inside[:, None], _image(colour), images)


def photograph(draw: Draw, images: Tensor, domain: Domain) -> Tensor:
    """Light, colour filter and cast, contrast, haze, blur and noise; uint8 ``[n, 3, H, W]``."""
    size = images.shape[-1]
    x, y = pixel_grid(size)
    angle = draw.uniform(0, 2 * math.pi)
    slope = (x / size - 0.5) * _map(angle.cos()) + (y / size - 0.5) * _map(angle.sin())
    images = images * (1 + slope[:, None] * _image(draw.uniform(0, 2 * domain.light)))
    if domain.hue_filter != (0.0, 0.0):
        images = torch.einsum("nij,njhw->nihw", _hue_rotation(draw.uniform(*domain.hue_filter)), images)
    images = images * _image(1 + domain.cast * draw.normal(3))
    images = (images - 0.45) * _image(draw.uniform(*domain.contrast)) + 0.45
    haze = _image(draw.uniform(*domain.haze))
    images = images * (1 - haze) + 0.75 * haze
    smooth = nn.functional.avg_pool2d(nn.functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = images + (smooth - images) * _image(draw.uniform(*domain.blur))
    images = images + draw.normal(*images.shape[1:]) * _image(draw.uniform(*domain.noise))
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def _hue_rotation(turns: Tensor) -> Tensor:
    """Rotations ``[n, 3, 3]`` of RGB about the grey axis (Rodrigues' formula)."""
    angle = 2 * math.pi * turns
    axis = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    cos, sin = _map(angle.cos()), _map(angle.sin())
    return cos * torch.eye(3) + sin * axis + (1 - cos) / 3
