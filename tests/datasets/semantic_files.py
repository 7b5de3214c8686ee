"""Segmentation sets in their published layouts, two tiny images a part."""

from pathlib import Path

import numpy as np
from PIL import Image

from subpt_dense.datasets.check_semantic import SEMANTIC_SETS

#: The last class's number in the maps; 20 in the others.
LAST = {
    "ade150": 150, "ade847": 846, "coco_stuff_zss": 170, "context_zss": 59, "context60_zss": 59, "pc59": 59,
    "pc459": 459,
}  # fmt: skip


def image(path: Path, values: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 2, 3), np.uint8) if values is None else values).save(path)


def write_set(root: Path, name: str, count: int = 2) -> Path:
    """A set with ``count`` images a part, whose maps hold the first and the last class, and what is ignored."""
    info = SEMANTIC_SETS[name]
    values = np.array([[info.first, LAST.get(name, 20)], [info.ignored, info.first]])
    for part, where in info.parts.items():
        names = [f"{part}_{k}" for k in range(count)]
        for stem in names:
            image(root / info.root / where.images / f"{stem}.jpg")
            path = root / info.root / where.maps / f"{stem}{info.map_suffix}"
            image(path, values.astype(np.uint8 if values.max() <= 255 else np.uint16))
        if where.listed:
            (root / info.root / where.listed).parent.mkdir(parents=True, exist_ok=True)
            (root / info.root / where.listed).write_text("\n".join(names))
    return root / info.root
