"""A small world of images and label maps on disk: numbers in another order than the labels, some of no class."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SEEN, UNSEEN = ("zebra", "ant", "mule"), ("bee", "yak")
SPLIT = {"name": "letters", "base": list(SEEN), "novel": list(UNSEEN)}
#: number in the maps -> name; "ground" and "sky" are in no group.
NUMBERS = ("ground", "yak", "ant", "zebra", "sky", "bee", "mule")
SIZE = (12, 16)  # height, width


def write_map(path: Path, numbers: np.ndarray, mode: str = "L") -> None:
    """A label map as the formats of published sets have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "I;16":
        Image.fromarray(numbers.astype(np.uint16)).save(path)
        return
    image = Image.fromarray(numbers.astype(np.uint8), "L")
    if mode == "P":
        image = Image.fromarray(numbers.astype(np.uint8), "P")
        image.putpalette([(37 * k) % 256 for k in range(768)])  # colours that are no numbers
    image.save(path)


def numbers_of(seed: int) -> np.ndarray:
    """A random map ``[12, 16]`` of :data:`NUMBERS`, and 255."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, len(NUMBERS), SIZE)
    values[0, :2] = 255
    return values


def write_world(root: Path, images: int = 3, mode: str = "L", shift: int = 0) -> dict[str, Any]:
    """Images and maps under ``root``, and the arguments of a data set on them; ``shift`` is added to every number."""
    for k in range(images):
        (root / "img").mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(k).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "img" / f"{k:03d}.png")
        numbers = numbers_of(k)
        write_map(root / "ann" / f"{k:03d}.png", np.where(numbers == 255, 255, numbers + shift), mode)
    return {
        "split": SPLIT,
        "labels": list(NUMBERS),
        "data_root": str(root),
        "data_prefix": {"img_path": "img", "seg_map_path": "ann"},
        "img_suffix": ".png",
        "pipeline": [
            {"type": "mmengine.LoadImageFromFile", "imdecode_backend": "pillow"},
            {"type": "subpt_dense.LoadLabels"},
            {"type": "mmseg.PackSegInputs"},
        ],
    }


def expected(numbers: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Labels of a map, pixel by pixel, by name."""
    labels = np.full(numbers.shape, 255)
    for row, column in np.ndindex(numbers.shape):
        number = numbers[row, column]
        if number != 255 and NUMBERS[number] in classes:
            labels[row, column] = classes.index(NUMBERS[number])
    return labels
