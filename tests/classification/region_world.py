"""A COCO-format file of a few boxes, and a region cache of embeddings that show their boxes' classes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from subpt_dense.classification import get_image_tower
from subpt_dense.datasets.region_writer import write_regions
from subpt_dense.text import TextSpec

BASE, NOVEL = ("cat", "hot dog"), ("owl",)
SPLIT: dict[str, Any] = {"name": "zoo", "base": list(BASE), "novel": list(NOVEL)}
#: In the file in another order than in the split, beside a class of neither group.
CATEGORIES = {"owl": 7, "hot dog": 2, "fox": 4, "cat": 9}
#: How far proposals are shifted from a box of 20 pixels, and what IoU that makes.
SHIFTS = {0.0: 1.0, 2.0: 9 / 11, 4.0: 2 / 3, 6.0: 7 / 13, 10.0: 1 / 3, 16.0: 1 / 9}

#: (image id, class name, box as x y width height, further keys)
Box = tuple[int, str, Sequence[float], Mapping[str, Any]]


def write_annotations(path: Path, boxes: Sequence[Box], images: Sequence[int] = ()) -> Path:
    """A file of these boxes, numbered from 101 on; ``images`` names further images."""
    ids = dict.fromkeys([*(box[0] for box in boxes), *images])
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 100} for i in ids],
        "categories": [{"id": i, "name": name} for name, i in CATEGORIES.items()],
        "annotations": [
            {"id": 101 + n, "image_id": i, "category_id": CATEGORIES[name], "bbox": list(box), "area": box[2] * box[3]}
            | dict(more)
            for n, (i, name, box, more) in enumerate(boxes)
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_cache(
    folder: Path, regions: Mapping[int, Sequence[Sequence[float]]], weights_hash: str, dim: int = 24, **facts: Any
) -> Path:
    """Corners by image; the embedding of region n is the n-th of a fixed random sequence."""
    count = sum(map(len, regions.values()))
    embeddings = normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(3)), dim=1).numpy()
    found: dict[Any, tuple[Any, Any, Any]] = {}
    for image_id, boxes in regions.items():
        start = sum(len(each) for *_, each in found.values())
        found[image_id] = (boxes, np.ones(len(boxes)), embeddings[start : start + len(boxes)])
    return write_regions(folder, found, backbone="tiny", weights="random", weights_hash=weights_hash, **facts)


def write_world(root: Path, clip: tuple[str, str], images: int = 6) -> dict[str, Any]:
    """``annotations/{train,val}.json`` and caches of proposals and boxes: a class's regions lie around one direction.

    Every image has a box of each base class, one of the novel one in val. Returns the clip as a config has it.
    """
    tower = get_image_tower(TextSpec(*clip))
    directions = normalize(torch.randn(3, tower.embed_dim, generator=torch.Generator().manual_seed(5)), dim=1)
    names, rng = BASE + NOVEL, np.random.default_rng(0)
    for part, shown in (("train", BASE), ("val", names)):
        boxes: list[Box] = []
        proposals: dict[int, tuple[Any, Any, Any]] = {}
        truth: dict[int, tuple[Any, Any, Any]] = {}
        for image in range(1, images + 1):
            mine = [(image, name, (30.0 * n, 40.0, 20.0, 20.0), {}) for n, name in enumerate(shown)]
            boxes += mine
            corners = np.array([[x, y, x + w, y + h] for _, _, (x, y, w, h), _ in mine])
            near = directions[[names.index(name) for _, name, _, _ in mine]].numpy()
            truth[image] = _embedded(corners, near, rng)
            moved = np.concatenate([corners + [0, shift, 0, shift] for shift in SHIFTS])
            proposals[image] = _embedded(moved, np.tile(near, (len(SHIFTS), 1)), rng)
        write_annotations(root / "annotations" / f"{part}.json", boxes)
        origin = {"backbone": clip[0], "weights": Path(clip[1]).name, "weights_hash": tower.weights_hash}
        write_regions(root / f"{part}_proposals", proposals, **origin)
        write_regions(root / f"{part}_truth", truth, **origin)
    (root / "split.json").write_text(json.dumps(SPLIT))
    return {"model": clip[0], "pretrained": clip[1]}


def _embedded(
    boxes: NDArray[Any], near: NDArray[Any], rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    noisy = near + 0.1 * rng.standard_normal(near.shape)
    return boxes, np.ones(len(boxes)), noisy / np.linalg.norm(noisy, axis=1, keepdims=True)


def relocated(root: Path, clip: Mapping[str, Any]) -> dict[str, Any]:
    """Options that put a ``cls_toy_regions_*`` config onto such a world, batches of 8, anchors on two names."""
    options: dict[str, Any] = {
        "model.language.text": dict(clip),
        "model.language.templates": "single",
        "model.language.names": {"generic": ["lynx", "wolf"], "heldout": list(NOVEL)},
        "train_dataloader.batch_size": 8,
        "train_dataloader.dataset.background_kept": 1.0,
    }
    stages = {"train": "train", "val": "val", "test": "val"}
    for stage, part in stages.items():
        prefix = {"truth": f"{part}_truth/"} | ({"proposals": "train_proposals/"} if part == "train" else {})
        found: dict[str, Any] = {"data_root": f"{root}/", "split": f"{root}/split.json", "image": dict(clip)}
        found["ann_file"] = f"annotations/{part}.json"
        options |= {f"{stage}_dataloader.dataset.{key}": value for key, value in found.items()}
        options[f"{stage}_dataloader.dataset.data_prefix"] = {"_delete_": True, **prefix}
    return options
