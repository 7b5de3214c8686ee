"""Labels of regions by their overlap with annotated boxes (N regions, n boxes of an image, m of crowds)."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

from subpt_dense.datasets.split_file import read_json

#: The label of a region that shows no class.
BACKGROUND = -1


class Truth(NamedTuple):
    """What is annotated in one image, in pixels, as corners x1, y1, x2, y2.

    Attributes:
        boxes: ``[n, 4]`` float64.
        labels: ``[n]`` int64, positions in the names asked for.
        ids: ``[n]`` int64, the annotations' own.
        crowds: ``[m, 4]`` float64: boxes around more objects than one can count, of the same classes.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    crowds: NDArray[np.float64]

    def only(self, ids: Collection[int]) -> "Truth":
        """With the boxes of these annotations alone; crowds stay."""
        kept = np.isin(self.ids, list(ids))
        return Truth(self.boxes[kept], self.labels[kept], self.ids[kept], self.crowds)


class Overlaps(NamedTuple):
    """How regions lie to the annotated boxes of their image.

    Attributes:
        label: ``[N]`` int64: the label of the box with the largest IoU; -1 where none overlaps.
        iou: ``[N]`` float64 in ``[0, 1]``: that IoU.
        crowd: ``[N]`` float64 in ``[0, 1]``: the largest part of the region that one crowd's box covers.
    """

    label: NDArray[np.int64]
    iou: NDArray[np.float64]
    crowd: NDArray[np.float64]


def read_truth(path: "str | Path", names: Sequence[str]) -> dict[int | str, Truth]:
    """Every image of a COCO-format annotation file, with its boxes of these names.

    Boxes of other names, those marked ``ignore``, and degenerate ones (area 0, or a side below one pixel: mmdet's rule)
    are dropped on reading.

    Args:
        path: JSON with ``images``, ``annotations`` and ``categories``.
        names: Class names in label order, as the file's categories spell them.

    Returns:
        By image id, in the file's order; images without a box are there too.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not of this format, repeats a category, or lacks a name.
    """
    content = read_json(Path(path), "Annotation file")
    absent = [key for key in ("images", "annotations", "categories") if key not in content]
    if absent:
        raise ValueError(
            f"Annotation file {path} must hold `images`, `annotations` and `categories`. Got no {', '.join(absent)}."
        )
    labels = _labels_by_id(content["categories"], names, path)
    found: dict[Any, list[Mapping[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["category_id"] in labels and annotation["image_id"] in found and _is_usable(annotation):
            found[annotation["image_id"]].append(annotation)
    return {image: _truth(annotations, labels) for image, annotations in found.items()}


def overlaps(regions: NDArray[Any], truth: Truth) -> Overlaps:
    """Compare regions ``[N, 4]`` (corners, in pixels of the original image) with the boxes of their image."""
    boxes, corners = np.asarray(regions, dtype=np.float64), truth.boxes
    crowd = _covered(boxes, truth.crowds)
    if not len(corners):
        return Overlaps(np.full(len(boxes), BACKGROUND), np.zeros(len(boxes)), crowd)
    # float64: a grade begins at its lower bound, which float32 may miss by rounding.
    iou, best = box_iou(torch.from_numpy(boxes), torch.from_numpy(corners)).max(dim=1)  # [N, n] -> [N]
    largest = iou.numpy()
    return Overlaps(np.where(largest > 0, truth.labels[best.numpy()], BACKGROUND), largest, crowd)


def _covered(boxes: NDArray[np.float64], crowds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest part of each box that one crowd covers, ``[N]``."""
    if not len(crowds) or not len(boxes):
        return np.zeros(len(boxes))
    low = np.maximum(boxes[:, None, :2], crowds[None, :, :2])  # [N, m, 2]
    high = np.minimum(boxes[:, None, 2:], crowds[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1)
    return shared.max(axis=1) / np.maximum(area, np.finfo(np.float64).tiny)


def _labels_by_id(categories: Sequence[Mapping[str, Any]], names: Sequence[str], path: "str | Path") -> dict[Any, int]:
    for key in ("name", "id"):
        repeated = [str(value) for value, count in Counter(c[key] for c in categories).items() if count > 1]
        if repeated:
            raise ValueError(
                f"The categories of {path} must be distinct. Got the {key} {', '.join(repeated)} more than once."
            )
    ids = {category["name"]: category["id"] for category in categories}
    missing = [name for name in names if name not in ids]
    if missing:
        more = " ..." if missing[5:] else ""
        raise ValueError(
            f"The categories of {path} must hold each of the {len(names)} class names. Missing are {len(missing)} of "
            f"them: {', '.join(missing[:5])}{more}. It has {len(ids)}. Is it the file of this split and group?"
        )
    return {ids[name]: label for label, name in enumerate(names)}


def _is_usable(annotation: Mapping[str, Any]) -> bool:
    _, _, width, height = annotation["bbox"]
    return not annotation.get("ignore") and annotation.get("area", 1) > 0 and width >= 1 and height >= 1


def _truth(annotations: Sequence[Mapping[str, Any]], labels: Mapping[Any, int]) -> Truth:
    single = [annotation for annotation in annotations if not annotation.get("iscrowd")]
    crowds = [annotation for annotation in annotations if annotation.get("iscrowd")]
    return Truth(
        _corners(single),
        np.array([labels[annotation["category_id"]] for annotation in single], dtype=np.int64),
        np.array([annotation["id"] for annotation in single], dtype=np.int64),
        _corners(crowds),
    )


def _corners(annotations: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Boxes ``[n, 4]`` as corners; COCO writes x, y, width, height."""
    boxes = np.array([annotation["bbox"] for annotation in annotations], dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
