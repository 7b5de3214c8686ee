"""A small random COCO-format world in a file of any order, detections in it, and pycocotools' own scores of them."""

import contextlib
import copy
import io
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BASE = ("zebra", "ant", "mule", "crab", "wasp")
NOVEL = ("bee", "yak", "newt")
OTHER = ("fox", "owl")  # in the file, in no group
SPLIT = {"name": "letters", "base": list(BASE), "novel": list(NOVEL)}
META = {"classes": BASE + NOVEL, "base_classes": BASE, "novel_classes": NOVEL}

# What a file may do: list its categories in another order than the labels', and number them in another order.
ORDERS = ("as labels", "order scrambled", "ids scrambled", "both scrambled")


def categories(order: str) -> list[dict]:
    names = list(BASE + NOVEL + OTHER)
    ids = list(range(1, len(names) + 1))
    rng = random.Random(3)
    if order in ("ids scrambled", "both scrambled"):
        ids = [7, 40, 3, 90, 11, 2, 55, 21, 8, 1]
    made = [{"id": i, "name": name, "supercategory": "animal"} for i, name in zip(ids, names, strict=True)]
    if order in ("order scrambled", "both scrambled"):
        rng.shuffle(made)
    return made


@dataclass
class World:
    """A COCO file, its category ids by name, and (image id, class name, score, box xyxy) of every detection."""

    path: Path
    ids: dict[str, int]
    image_ids: list[int]
    found: list[tuple[int, str, float, list[float]]]

    def predictions(self, classes: tuple[str, ...] = BASE + NOVEL, image_ids: list[int] | None = None) -> list[dict]:
        """Detections by image with labels counted in ``classes``."""
        made = []
        for image_id in self.image_ids if image_ids is None else image_ids:
            rows = [row for row in self.found if row[0] == image_id and row[1] in classes]
            made.append({
                "img_id": image_id,
                "labels": np.array([classes.index(row[1]) for row in rows], dtype=np.int64),
                "scores": np.array([row[2] for row in rows], dtype=np.float32),
                "bboxes": np.array([row[3] for row in rows], dtype=np.float32).reshape(-1, 4),
            })  # fmt: skip
        return made


def write_world(folder: Path, order: str, seed: int = 0) -> World:
    """12 images of 300 px with ids in no order, 2 of them empty; crowds; boxes of all three area classes."""
    rng = random.Random(seed)
    cats = categories(order)
    ids = {category["name"]: category["id"] for category in cats}
    image_ids = rng.sample(range(1000), 12)
    images = [{"id": i, "file_name": f"{i}.png", "height": 300, "width": 300} for i in image_ids]
    annotations, found = [], []
    for image_id in image_ids[2:]:
        for name in rng.choices(BASE + NOVEL + OTHER, k=8):
            w, h = (rng.choice([20, 60, 130]) * rng.uniform(0.7, 1.2) for _ in range(2))
            x, y = rng.uniform(0, 300 - w), rng.uniform(0, 300 - h)
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            crowd = int(rng.random() < 0.15)
            mask = {"size": [300, 300], "counts": [0, 90000]} if crowd else [polygon]
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id, "category_id": ids[name], "bbox": [x, y, w, h],
                "area": w * h, "iscrowd": crowd, "segmentation": mask,
            })  # fmt: skip
            for _ in range(rng.choice([0, 1, 1, 2])):
                a, b = rng.gauss(0, 0.08) * w, rng.gauss(0, 0.08) * h
                label = name if name not in OTHER and rng.random() < 0.8 else rng.choice(BASE + NOVEL)
                found.append((image_id, label, rng.random(), [x + a, y + b, x + a + w, y + b + h]))
    for image_id in image_ids:  # false positives, in the empty images too
        found.append((image_id, rng.choice(BASE + NOVEL), rng.random() * 0.9, [10, 10, 60, 90]))
    path = folder / f"{order.replace(' ', '_')}.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": cats}))
    return World(path, ids, image_ids, found)


def reference(
    world: World, names: tuple[str, ...], image_ids: list[int] | None = None, segm: list[dict] | None = None
) -> np.ndarray:
    """pycocotools' twelve numbers of these names and images, straight from its own interface."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(world.path))
        rows = copy.deepcopy(segm) or [
            {"image_id": i, "category_id": world.ids[name], "score": float(np.float32(score)), "bbox": _xywh(box)}
            for i, name, score, box in world.found
        ]
        evaluator = COCOeval(truth, truth.loadRes(rows), "segm" if segm else "bbox")
        evaluator.params.catIds = [world.ids[name] for name in names]
        evaluator.params.imgIds = world.image_ids if image_ids is None else image_ids
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats


def _xywh(box: list[float]) -> list[float]:
    x1, y1, x2, y2 = (float(np.float32(value)) for value in box)
    return [x1, y1, x2 - x1, y2 - y1]
