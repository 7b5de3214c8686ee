"""Small annotation and proposal files, and random embeddings."""

import json
from pathlib import Path
from typing import Any

import numpy as np

#: id, file, width, height; the ids are in no order, and the third image gets no box.
IMAGES = [(30, "a.png", 40, 30), (4, "b.png", 64, 48), (17, "sub/c.png", 20, 20), (8, "d.png", 50, 60)]


def write_annotations(path: Path, annotations: list[dict[str, Any]] | None = None, images: Any = IMAGES) -> Path:
    """A COCO file; by default with two boxes in all images but the third."""
    made = [{"id": i, "file_name": name, "width": w, "height": h} for i, name, w, h in images]
    if annotations is None:
        boxes = [(i, [2.5 + at, 3.0, 10.25, 9.5]) for i, *_ in images if i != 17 for at in range(2)]
        annotations = [{"id": at, "image_id": i, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
                       for at, (i, box) in enumerate(boxes, start=1)]  # fmt: skip
    path.write_text(json.dumps({"images": made, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}))
    return path


def unit_rows(count: int, dim: int = 6, seed: int = 0) -> np.ndarray:
    """Random unit vectors ``[count, dim]``."""
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def some_regions(counts: dict[Any, int], dim: int = 6) -> dict[Any, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """So many random boxes, scores and embeddings for each image id."""
    rng, made = np.random.default_rng(1), {}
    for seed, (image_id, count) in enumerate(counts.items()):
        corner, side = rng.uniform(0, 50, (count, 2)), rng.uniform(1, 40, (count, 2))
        boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
        made[image_id] = boxes, np.sort(rng.random(count))[::-1].astype(np.float32), unit_rows(count, dim, seed)
    return made


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
