"""Crops against Pillow's, on noise and on a picture; windows by hand."""

import numpy as np
import pytest
import torch
from PIL import Image

from subpt_dense.apis.region_crops import crop_and_resize, crop_windows, resize_together

WIDTH, HEIGHT = 160, 120
SIZES = [(1, 1), (3, 2), (5, 40), (16, 16), (31, 33), (32, 32), (90, 7), (7, 90), (100, 100), (160, 120)]


def picture(kind: str) -> np.ndarray:
    """``[H, W, 3]`` uint8: noise, or smooth as photographs are."""
    rng = np.random.default_rng(0)
    if kind == "noise":
        return rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return np.array(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def windows() -> list[list[int]]:
    """One of each size, somewhere."""
    rng, made = np.random.default_rng(1), []
    for width, height in SIZES:
        left, top = int(rng.integers(0, WIDTH - width + 1)), int(rng.integers(0, HEIGHT - height + 1))
        made.append([left, top, left + width, top + height])
    return made


def by_pillow(pixels: np.ndarray, window: list[int], size: int, steps: bool) -> torch.Tensor:
    """``[3, S, S]`` int; with ``steps`` across first, then down, which newer versions do only where it is cheaper."""
    crop = Image.fromarray(pixels).crop(tuple(window))
    if steps:
        crop = crop.resize((size, crop.height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(crop.resize((size, size), Image.Resampling.BICUBIC))).permute(2, 0, 1).int()


@pytest.mark.parametrize("resize", [crop_and_resize, resize_together])
@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize(("kind", "steps"), [("noise", True), ("picture", True), ("picture", False)])
def test_equals_pillow(resize: object, size: int, kind: str, steps: bool) -> None:
    pixels = picture(kind)
    found = resize(torch.from_numpy(pixels).permute(2, 0, 1), windows(), size)
    assert found.shape == (len(SIZES), 3, size, size) and found.dtype == torch.uint8
    for crop, window in zip(found, windows(), strict=True):
        difference = (crop.int() - by_pillow(pixels, window, size, steps)).abs()
        assert difference.max() <= 2, window
        assert not steps or difference.float().mean() <= 0.05


def test_layout_does_not_matter() -> None:
    pixels = torch.from_numpy(picture("noise")).permute(2, 0, 1)
    found = crop_and_resize(pixels, windows(), 24)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(crop_and_resize(pixels.contiguous(), windows(), 24), found)


def test_memory_is_used_again() -> None:
    pixels = torch.from_numpy(picture("noise")).permute(2, 0, 1)
    memory = torch.empty(len(SIZES) + 2, 3, 24, 24, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    found = crop_and_resize(pixels, windows(), 24, out=memory[: len(SIZES)])
    assert found.data_ptr() == memory.data_ptr() and torch.equal(found, crop_and_resize(pixels, windows(), 24))
    for wrong in (memory, torch.empty(len(SIZES), 3, 24, 24, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"`out` of crop_and_resize must be of shape \[10, 3, 24, 24\]"):
            crop_and_resize(pixels, windows(), 24, out=wrong)


@pytest.mark.parametrize("resize", [crop_and_resize, resize_together])
def test_no_window(resize: object) -> None:
    found = resize(torch.zeros(3, 9, 9, dtype=torch.uint8), np.zeros((0, 4)), 8)
    assert found.shape == (0, 3, 8, 8) and found.dtype == torch.uint8


def test_crops_do_not_depend_on_their_company() -> None:
    pixels = torch.from_numpy(picture("noise")).permute(2, 0, 1)
    together = crop_and_resize(pixels, windows(), 24)
    for at, window in enumerate(windows()):
        assert torch.equal(crop_and_resize(pixels, [window], 24)[0], together[at])


WINDOWS = [
    ([10, 20, 30, 60], 1.0, [10, 20, 30, 60]),
    ([10.2, 20.9, 30.1, 60.0], 1.0, [10, 20, 31, 60]),
    ([10, 20, 30, 60], 1.5, [5, 10, 35, 70]),
    ([10, 20, 31, 61], 1.5, [4, 9, 37, 72]),
    ([0, 0, 160, 120], 1.5, [0, 0, 160, 120]),
    ([150, 110, 170, 130], 1.0, [150, 110, 160, 120]),
    ([150, 110, 170, 130], 1.5, [145, 105, 160, 120]),
    ([-5, -5, 0.1, 0.1], 1.0, [0, 0, 1, 1]),
    ([159.9, 3, 163, 4], 1.0, [159, 3, 160, 4]),
    ([3.0, 4.0, 3.1, 4.1], 1.0, [3, 4, 4, 5]),
]


@pytest.mark.parametrize(("box", "scale", "window"), WINDOWS)
def test_windows(box: list[float], scale: float, window: list[int]) -> None:
    (found,) = crop_windows([box], scale, HEIGHT, WIDTH)
    assert found.tolist() == window


def test_windows_of_float32_boxes_are_exact() -> None:
    boxes = np.random.default_rng(0).uniform(0, 100, (1000, 4)).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2] + 1
    found = crop_windows(boxes, 1.0, 10_000, 10_000)
    np.testing.assert_array_equal(found, np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1))
    assert crop_windows(np.zeros((0, 4)), 1.5, 9, 9).shape == (0, 4)


@pytest.mark.parametrize(
    "box",
    [[5, 5, 5, 9], [5, 9, 7, 9], [7, 5, 5, 9], [160, 5, 170, 9], [5, 120, 9, 130], [-9, 1, 0, 5], [1, -9, 5, 0],
     [np.nan, 1, 5, 5], [1, 1, np.inf, 5]],
)  # fmt: skip
def test_refused_boxes(box: list[float]) -> None:
    with pytest.raises(ValueError, match=r"a part inside its image of 160x120. Got \[") as raised:
        crop_windows([[1, 1, 2, 2], box], 1.0, HEIGHT, WIDTH)
    assert str([float(value) for value in box]) in str(raised.value)


@pytest.mark.parametrize("scale", [0.9, 0, float("nan"), float("inf")])
def test_refused_scales(scale: float) -> None:
    with pytest.raises(ValueError, match="`scale` of crop_windows must be at least 1"):
        crop_windows([[1, 1, 2, 2]], scale, HEIGHT, WIDTH)


@pytest.mark.gpu
def test_the_gpu_gives_the_same() -> None:
    pixels = torch.from_numpy(picture("noise")).permute(2, 0, 1)
    found = crop_and_resize(pixels.cuda(), windows(), 224)
    assert found.is_cuda
    assert (found.cpu().int() - crop_and_resize(pixels, windows(), 224).int()).abs().max() <= 2
