"""Sliding windows in batches (B images, K classes, H x W pixels, N windows)."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

#: What windows are given to: pixels ``[n, 3, crop]`` and the image each is of; gives logits ``[n, K, crop]``.
Classify = Callable[[Tensor, Sequence[int]], Tensor]


def windows(size: tuple[int, int], crop: tuple[int, int], stride: tuple[int, int]) -> list[tuple[int, int]]:
    """Top left corners of the windows over an image, row by row: mmseg's own, the last ones moved inside.

    Args:
        size: H and W.
        crop: Height and width of a window; where the image is smaller, the image's.
        stride: Steps down and to the right.

    Raises:
        ValueError: If a number is not positive, or a step is larger than the window, so that pixels would be left out.
    """
    for name, values in {"crop_size": crop, "stride": stride}.items():
        if len(values) != 2 or min(values) < 1:
            raise ValueError(f"`{name}` of sliding windows must be two positive numbers. Got {tuple(values)}.")
    if any(step > side for step, side in zip(stride, crop, strict=True)):
        raise ValueError(
            f"`stride` of sliding windows must be at most `crop_size` {tuple(crop)}, or pixels would be left out. "
            f"Got {tuple(stride)}."
        )
    starts = []
    for side, part, step in zip(size, crop, stride, strict=True):
        count = max(side - part + step - 1, 0) // step + 1
        starts.append([max(min(index * step + part, side) - part, 0) for index in range(count)])
    return [(top, left) for top in starts[0] for left in starts[1]]


def slide_logits(
    images: Tensor,
    classify: Classify,
    *,
    crop: tuple[int, int],
    stride: tuple[int, int],
    batch: int = 8,
) -> Tensor:
    """The mean of the windows' logits in every pixel, windows of all images classified ``batch`` at a time.

    The numbers are those of mmseg's ``EncoderDecoder.slide_inference``, which takes one window at a time. Beside the
    images and the sum ``[B, K, H, W]``, one batch of windows is in memory at once.

    Args:
        images: ``[B, 3, H, W]``.
        classify: Gives a batch of windows its logits.
        crop: Height and width of a window.
        stride: Steps down and to the right.
        batch: Windows at a time, >= 1.

    Returns:
        ``[B, K, H, W]``.

    Raises:
        ValueError: If ``crop``, ``stride`` or ``batch`` is not positive, or the windows leave pixels out.
    """
    if batch < 1:
        raise ValueError(f"`batch` of sliding windows must be at least 1. Got {batch}.")
    height, width = images.shape[-2:]
    corners = windows((height, width), crop, stride)
    tall, wide = min(crop[0], height), min(crop[1], width)
    count = images.new_zeros(1, 1, height, width, dtype=torch.float32)
    for top, left in corners:
        count[..., top : top + tall, left : left + wide] += 1
    total: Tensor | None = None
    for part in _parts([(i, *corner) for corner in corners for i in range(len(images))], batch):
        pixels = torch.stack([images[i, :, top : top + tall, left : left + wide] for i, top, left in part])
        logits = classify(pixels, [i for i, *_ in part])  # [n, K, tall, wide]
        if total is None:
            total = logits.new_zeros(len(images), logits.shape[1], height, width)
        for (i, top, left), found in zip(part, logits, strict=True):
            total[i, :, top : top + tall, left : left + wide] += found
    if total is None:
        raise ValueError(f"`images` of sliding windows must be at least one. Got {list(images.shape)}.")
    return total / count


def _parts(items: list[tuple[int, int, int]], size: int) -> Iterator[list[tuple[int, int, int]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
