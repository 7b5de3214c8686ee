"""Average precision with federated labels, as LVIS defines it (arXiv 1908.03195, section 3).

Legend: K categories, T IoU thresholds, R recall levels, A area ranges (all, small, medium, large).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Categories evaluated at a time: the evaluator keeps a cell for each image and category, 24 million on LVIS val, and
#: all of them at once take 1.2 GB for a thousand images.
_CHUNK = 20


def federated_precision(
    truth: Mapping[str, Any],
    detections: Sequence[dict],
    *,
    cat_ids: Sequence[int],
    image_ids: Collection[int],
    iou_thrs: NDArray[np.float64],
    kind: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall of each category over the images where it was looked for.

    A detection counts only in images that have the category or are known not to (``neg_category_ids``); where the
    category is not labelled fully (``not_exhaustive_category_ids``), an unmatched one is left out. The matching is
    faster-coco-eval's ``lvis_style``, some categories at a time, each over the images that matter to it: the same
    numbers in a fraction of the memory.

    Args:
        truth: ``images`` and ``annotations`` in LVIS's format, annotation ids above 0 and distinct.
        detections: ``image_id``, ``category_id``, ``score`` and ``bbox`` (xywh) or ``segmentation`` (RLE) of each.
        cat_ids: The K category ids.
        image_ids: The images evaluated.
        iou_thrs: IoU thresholds ``[T]``.
        kind: ``"bbox"`` or ``"segm"``.

    Returns:
        Precision ``[T, R, K, A]`` with R = 101, and recall ``[T, K, A]``; -1 where a category has no ground truth.

    Raises:
        ImportError: If faster-coco-eval is not installed.
    """
    require_evaluator()
    wanted = set(image_ids)
    images = {image["id"]: image for image in truth["images"] if image["id"] in wanted}
    owned = _by_category(truth["annotations"], images)
    detected = _by_category(detections, images)
    precision = np.full((len(iou_thrs), 101, len(cat_ids), 4), -1.0)
    recall = np.full((len(iou_thrs), len(cat_ids), 4), -1.0)
    present = [k for k, i in enumerate(cat_ids) if owned[i]]  # the others have no precision
    present.sort(key=lambda k: len(detected[cat_ids[k]]))  # rare ones together, so that they share few images
    for start in range(0, len(present), _CHUNK):
        chunk = sorted(present[start : start + _CHUNK], key=lambda k: cat_ids[k])
        ids = [cat_ids[k] for k in chunk]
        annotations = [dict(one) for i in ids for one in owned[i]]  # the evaluator writes into them
        found = [one for i in ids for one in detected[i]]
        shown = {one["image_id"] for one in (*annotations, *found)}
        part = {
            "images": [image for i, image in images.items() if i in shown],
            "annotations": annotations,
            "categories": [{"id": i, "name": str(i), "frequency": "f"} for i in ids],
        }
        precision[:, :, chunk], recall[:, chunk] = _evaluate(part, found, ids, iou_thrs, kind)
    return precision, recall


def known_categories(truth: Mapping[str, Any], image_ids: Collection[int]) -> dict[int, set[int]]:
    """By image, the ids of the categories it has or is known not to have: detections of others say nothing."""
    wanted = set(image_ids)
    known = {image["id"]: {*image["neg_category_ids"]} for image in truth["images"] if image["id"] in wanted}
    for annotation in truth["annotations"]:
        if annotation["image_id"] in known:
            known[annotation["image_id"]].add(annotation["category_id"])
    return known


def require_evaluator() -> None:
    """Say how to install faster-coco-eval where it is missing.

    Raises:
        ImportError: If it is.
    """
    try:
        import faster_coco_eval  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "LVIS's metric needs faster-coco-eval, which is not installed: pip install 'subpt_dense[lvis]'."
        ) from error


def _by_category(annotations: Iterable[dict], images: Mapping[int, Any]) -> dict[int, list[dict]]:
    groups: dict[int, list[dict]] = defaultdict(list)
    for annotation in annotations:
        if annotation["image_id"] in images:
            groups[annotation["category_id"]].append(annotation)
    return groups


def _evaluate(
    truth: dict[str, Any], found: list[dict], ids: Sequence[int], iou_thrs: NDArray[np.float64], kind: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision ``[T, R, K, A]`` and recall ``[T, K, A]`` of one chunk, in the order of ``ids``, ascending."""
    from faster_coco_eval import COCO, COCOeval_faster

    api = COCO(truth)
    evaluator = COCOeval_faster(api, api.loadRes(found), kind, lvis_style=True)
    evaluator.params.catIds = list(ids)
    evaluator.params.imgIds = [image["id"] for image in truth["images"]]
    evaluator.params.maxDets = [max(1, len(found))]  # limited before, over all categories of an image
    evaluator.params.iouThrs = iou_thrs
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator.eval["precision"][..., 0], evaluator.eval["recall"][..., 0]
