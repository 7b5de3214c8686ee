"""A small random world in LVIS's format, detections in it, and an independent federated evaluation of them in numpy."""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_api

SIDE = 160
#: Rare ones are novel. "owl" is in the file and in no group.
FREQUENCY = {
    "zebra": "f", "flip-flop_(sandal)": "f", "mule": "c", "crab": "c", "ant": "c",
    "bee": "r", "yak": "r", "newt": "r", "owl": "f",
}  # fmt: skip
BASE = tuple(name for name, letter in FREQUENCY.items() if letter != "r" and name != "owl")
NOVEL = tuple(name for name, letter in FREQUENCY.items() if letter == "r")
SPLIT = {"name": "letters", "base": list(BASE), "novel": list(NOVEL)}
META = {"classes": BASE + NOVEL, "base_classes": BASE, "novel_classes": NOVEL}
IOUS = np.linspace(0.5, 0.95, 10)


@dataclass
class Image:
    """What is known of an image: rectangles (x1, y1, x2, y2) by name, absent names, names not labelled fully."""

    truth: list[tuple[str, list[int]]]
    absent: set[str]
    partly: set[str]
    found: list[tuple[str, float, list[int]]] = field(default_factory=list)

    def counts(self, name: str) -> bool:
        return name in self.absent or name in {one for one, _ in self.truth}


@dataclass
class World:
    """An annotation file, its category ids by name, and its images by id."""

    path: Path
    ids: dict[str, int]
    images: dict[int, Image]

    def predictions(self, image_ids: list[int] | None = None, masks: bool = False) -> list[dict]:
        """What a model gives, labels counted in the base names and then the novel ones."""
        made = []
        for i in self.images if image_ids is None else image_ids:
            found = self.images[i].found
            made.append({
                "img_id": i,
                "labels": np.array([META["classes"].index(name) for name, _, _ in found], dtype=np.int64),
                "scores": np.array([score for _, score, _ in found], dtype=np.float32),
                "bboxes": np.array([box for *_, box in found], dtype=np.float32).reshape(-1, 4),
            })  # fmt: skip
            if masks:
                made[-1]["masks"] = np.stack([ellipse(box) for *_, box in found])
                made[-1]["bboxes"] *= 0  # boxes must play no part in mask AP
        return made


def write_world(folder: Path, seed: int = 0, scrambled: bool = True, images: int = 14) -> World:
    """Images in both of COCO's folders, objects of all three area classes, no crowds, detections of every kind."""
    rng = random.Random(seed)
    names = list(FREQUENCY)
    ids = dict(zip(names, rng.sample(range(1, 60), len(names)) if scrambled else range(1, 10), strict=True))
    world = World(folder / "lvis.json", ids, {})
    content: dict[str, list] = {"images": [], "annotations": [], "categories": []}
    for i in rng.sample(range(1, 1000), images):
        shown = rng.sample(names, 4)
        truth = [(name, _rectangle(rng)) for name in shown for _ in range(rng.choice([1, 1, 2, 3]))]
        absent = set(rng.sample([name for name in names if name not in shown], 2))
        image = world.images[i] = Image(truth, absent, set(rng.sample(shown, 1)))
        image.found = _detections(image, rng)
        content["images"].append({
            "id": i, "height": SIDE, "width": SIDE, "license": 1,
            "coco_url": f"http://images.cocodataset.org/{rng.choice(['train2017', 'val2017'])}/{i:012d}.jpg",
            "neg_category_ids": [ids[name] for name in absent],
            "not_exhaustive_category_ids": [ids[name] for name in image.partly],
        })  # fmt: skip
        for name, (x1, y1, x2, y2) in truth:
            polygon = _polygon([x1, y1, x2, y2])
            content["annotations"].append({
                "id": len(content["annotations"]) + 1, "image_id": i, "category_id": ids[name],
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "segmentation": [polygon],
            })  # fmt: skip
    content["categories"] = [
        {"id": ids[name], "name": name, "frequency": FREQUENCY[name], "synset": f"{name}.n.01"} for name in names
    ]
    if scrambled:
        rng.shuffle(content["categories"])
    world.path.parent.mkdir(parents=True, exist_ok=True)
    world.path.write_text(json.dumps(content))
    return world


def _rectangle(rng: random.Random) -> list[int]:
    w, h = (rng.choice([rng.randint(12, 30), rng.randint(40, 80), rng.randint(100, 130)]) for _ in range(2))
    x, y = rng.randint(0, SIDE - w), rng.randint(0, SIDE - h)
    return [x, y, x + w, y + h]


def _detections(image: Image, rng: random.Random) -> list[tuple[str, float, list[int]]]:
    found = []
    for name, box in image.truth:
        for _ in range(rng.choice([0, 1, 1, 2])):
            moved = [min(max(value + rng.randint(-6, 6), 0), SIDE) for value in box]
            label = name if name in META["classes"] and rng.random() < 0.8 else rng.choice(META["classes"])
            found.append((label, rng.random(), moved))
    found += [(rng.choice(META["classes"]), rng.random() * 0.9, _rectangle(rng)) for _ in range(6)]
    return [(name, float(np.float32(score)), box) for name, score, box in found]


def _polygon(box: list[int]) -> list[float]:
    """An octagon in the box, so that the mask is not the box."""
    x1, y1, x2, y2 = box
    a, b = (x2 - x1) * 0.3, (y2 - y1) * 0.3
    corners = [(x1 + a, y1), (x2 - a, y1), (x2, y1 + b), (x2, y2 - b), (x2 - a, y2), (x1 + a, y2), (x1, y2 - b)]
    return [value for corner in (*corners, (x1, y1 + b)) for value in corner]


def ellipse(box: list[int]) -> np.ndarray:
    """A mask ``[SIDE, SIDE]`` as a model gives it."""
    (x1, y1, x2, y2), (y, x) = box, np.mgrid[:SIDE, :SIDE] + 0.5
    rx, ry = max(x2 - x1, 1) / 2, max(y2 - y1, 1) / 2
    return ((x - x1 - rx) / rx) ** 2 + ((y - y1 - ry) / ry) ** 2 <= 1


def octagon(box: list[int]) -> np.ndarray:
    """The annotated mask, rasterised as LVIS's tools do it."""
    return mask_api.decode(mask_api.merge(mask_api.frPyObjects([_polygon(box)], SIDE, SIDE))).astype(bool)


def reference(
    world: World,
    image_ids: list[int] | None = None,
    masks: bool = False,
    per_image: int = 300,
    per_category: int | None = None,
) -> dict[str, np.ndarray]:
    """AP of each name at each IoU threshold ``[10]``, NaN without ground truth, written out from the paper."""
    images = {i: world.images[i] for i in (world.images if image_ids is None else image_ids)}
    rows = [(i, *row) for i, image in images.items() for row in image.found]
    if per_category is None:
        kept = [row for i in images for row in sorted((r for r in rows if r[0] == i), key=lambda r: -r[2])[:per_image]]
    else:
        by_name = {name: sorted((r for r in rows if r[1] == name), key=lambda r: -r[2]) for name in META["classes"]}
        kept = [row for found in by_name.values() for row in found[:per_category]]
    overlap = _mask_iou if masks else _box_iou
    scores = {}
    for name in META["classes"]:
        truth = {i: [box for one, box in image.truth if one == name] for i, image in images.items()}
        total = sum(map(len, truth.values()))
        found = sorted((row for row in kept if row[1] == name and images[row[0]].counts(name)), key=lambda r: -r[2])
        ious = {n: [overlap(row[3], box) for box in truth[row[0]]] for n, row in enumerate(found)}
        values = []
        for threshold in IOUS:
            taken: set[tuple[int, int]] = set()
            hits = []
            for n, (i, *_) in enumerate(found):
                free = [(iou, j) for j, iou in enumerate(ious[n]) if (i, j) not in taken and iou >= threshold]
                if free:
                    taken.add((i, max(free)[1]))
                    hits.append(True)
                elif name not in images[i].partly:
                    hits.append(False)
            values.append(_average(hits, total))
        scores[name] = np.array(values)
    return scores


def _average(hits: list[bool], total: int) -> float:
    """Precision, made to fall with recall, averaged over 101 recall levels."""
    if not total:
        return np.nan
    right = np.cumsum(hits)
    precision, recall = right / np.arange(1, len(hits) + 1), right / total
    levels = []
    for level in np.linspace(0, 1, 101):
        reached = [p for p, r in zip(precision, recall, strict=True) if r >= level]
        levels.append(max(reached, default=0.0))
    return float(np.mean(levels))


def _box_iou(a: list[int], b: list[int]) -> float:
    width, height = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1))
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


def _mask_iou(found: list[int], truth: list[int]) -> float:
    a, b = ellipse(found), octagon(truth)
    return (a & b).sum() / (a | b).sum()
