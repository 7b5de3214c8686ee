"""Cached region embeddings as a data set to learn prompts on: DetPro's way (N regions, K classes, D embedding)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.logging import print_log
from numpy.typing import NDArray
from torch.utils.data import Dataset

from subpt_dense.classification.image_tower import get_image_tower
from subpt_dense.classification.region_labels import BACKGROUND, Truth, overlaps, read_truth
from subpt_dense.datasets import ClassSplit, ImageList, file_sha256, get_split, load_or_draw
from subpt_dense.datasets.region_cache import RegionCache
from subpt_dense.registry import DATASETS
from subpt_dense.text import TextSpec, clean_name


class _Regions(NamedTuple):
    """Regions by place: which cache, which of its images, which row of that image; their labels and IoUs, ``[N]``."""

    cache: NDArray[np.int64]
    image: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.int64]
    iou: NDArray[np.float64]

    def only(self, places: NDArray[Any]) -> "_Regions":
        return _Regions(*(values[places] for values in self))


@DATASETS.register_module()
class RegionSet(Dataset):
    """Regions of a :class:`subpt_dense.datasets.region_cache.RegionCache`, labelled by their IoU with annotated boxes.

    A region whose largest IoU lies in ``grade`` has that box's label; one whose largest IoU lies in ``background`` has
    the label -1; others are left out, and so is background that lies in a crowd. Boxes outside the group are not read:
    to the learner they do not exist. Source: DetPro, arXiv 2203.14940; what the paper does not say (the IoUs of the
    background, a random tenth of it, the weights) is its official release's.

    ``metainfo`` holds ``classes`` (the group's names: label i is ``classes[i]``), ``base_classes``, ``novel_classes``,
    ``dataset_type``, ``set``, ``part``, ``group``, ``annotation_file`` and ``annotation_sha256``.

    Args:
        ann_file: COCO-format annotations, under ``data_root``.
        data_prefix: Folders of the region caches under ``data_root``, by any name: ``dict(proposals="regions",
            truth="regions_truth")``. Their regions are joined; each must hold every image with a box.
        split: What :func:`subpt_dense.datasets.get_split` takes.
        data_root: What the paths lie under.
        group: ``"base"``, ``"novel"`` or ``"all"``.
        grade: IoUs of the regions that show a class, ``(low, high)``: low <= IoU < high. The annotated boxes
            themselves have IoU 1: the highest grade ends above it, at 1.1.
        background: IoUs of background, likewise; None has none.
        background_kept: The part of the background that is kept, in (0, 1]; drawn at random with ``draw``.
        balanced: Give each item a ``weight``, so that all classes count the same in total, and all background half of
            what all classes do.
        boxes_per_class: Read that many boxes of each class only, a few-shot draw; None reads all.
        draw: The seed of both draws.
        draw_dir: Where few-shot draws are kept, by annotation id (:func:`subpt_dense.datasets.load_or_draw`).
        ignore_iof: Background of which a crowd covers this part or more is left out, in (0, 1].
        image: The CLIP the embeddings must come from, ``dict(model=..., pretrained=..., precision="fp32")``; None
            leaves the comparison to the model.

    Attributes:
        labels: ``[N]`` int64.
        ious: ``[N]`` float64, the largest IoU of each region.
        weights: ``[N]`` float64; ones unless ``balanced``.

    Raises:
        FileNotFoundError: If the annotation file does not exist.
        ValueError: If an argument is out of range, a file or cache is refused, or no region shows a class.
        LookupError: If a cache lacks an image.
    """

    labels_by_name = True  # what VocabularyHook asks of a data set that numbers its labels

    def __init__(
        self,
        *,
        ann_file: str,
        data_prefix: Mapping[str, str],
        split: "str | Path | ClassSplit | Mapping[str, Any]",
        data_root: str = "",
        group: str = "base",
        grade: Sequence[float] = (0.5, 1.1),
        background: Sequence[float] | None = (0.1, 0.5),
        background_kept: float = 1.0,
        balanced: bool = False,
        boxes_per_class: int | None = None,
        draw: int = 1,
        draw_dir: str = "work_dirs/draws",
        ignore_iof: float = 0.5,
        image: Mapping[str, Any] | None = None,
    ) -> None:
        _check_ranges(grade, background, {"background_kept": background_kept, "ignore_iof": ignore_iof})
        if not data_prefix:
            raise ValueError("`data_prefix` of RegionSet must name at least one region cache. Got none.")
        chosen, path = get_split(split), Path(data_root) / ann_file
        names = chosen.group(group)
        digest = file_sha256(path) if path.is_file() else ""  # read_truth says what is missing
        truth = read_truth(path, names)
        if boxes_per_class is not None:
            boxes = _listed(truth, names, chosen.name, path, digest)
            drawn = load_or_draw(boxes, None, boxes_per_class, draw, draw_dir).train
            ids = {int(number) for number, _, _ in drawn.images}
            truth = {key: known.only(ids) for key, known in truth.items()}
        expected = None if image is None else get_image_tower(TextSpec(**image)).weights_hash
        self._caches = [
            RegionCache(os.path.join(data_root, folder), weights_hash=expected) for folder in data_prefix.values()
        ]
        for cache, folder in zip(self._caches, data_prefix.values(), strict=True):
            _check_images(cache, os.path.join(data_root, folder), truth, path)
        regions = self._compare(truth, grade, background, ignore_iof)
        self._regions = _thinned(regions, background_kept, draw)
        self.labels, self.ious = self._regions.label, self._regions.iou
        self._balanced = balanced
        self.weights = _weights(self.labels, len(names)) if balanced else np.ones(len(self.labels))
        limits = f"IoU [{grade[0]:g}, {grade[1]:g})"
        _tell(self.labels, names, f"{path}, {limits}")
        self.metainfo: dict[str, Any] = {
            "classes": names,
            "base_classes": chosen.base,
            "novel_classes": chosen.novel,
            "dataset_type": "region_set",
            "set": chosen.name,
            "part": f"regions, {limits}",
            "group": group,
            "annotation_file": str(path),
            "annotation_sha256": digest,
        }

    def _compare(
        self,
        truth: Mapping[int | str, Truth],
        grade: Sequence[float],
        background: Sequence[float] | None,
        ignore_iof: float,
    ) -> _Regions:
        """All regions of a class and all background, in the order of caches, images and rows."""
        nothing = np.zeros(0, dtype=np.int64)
        parts = [_Regions(nothing, nothing, nothing, nothing, np.zeros(0))]
        for number, cache in enumerate(self._caches):
            for place, image_id in enumerate(cache.image_ids):
                known = truth.get(image_id)
                if known is None or not len(known.boxes):
                    continue
                label, iou, crowd = overlaps(cache.boxes(image_id), known)
                shown = _within(iou, grade)
                behind = np.zeros_like(shown) if background is None else _within(iou, background) & (crowd < ignore_iof)
                rows = np.flatnonzero(shown | behind)
                label = np.where(shown, label, BACKGROUND)[rows]
                parts.append(_Regions(np.full_like(rows, number), np.full_like(rows, place), rows, label, iou[rows]))
        return _Regions(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``inputs``: the embedding ``[D]`` float32, unit up to float16; ``label``, ``index``, the ``tower``'s hash.

        Where items are ``balanced``, also ``weight``.
        """
        cache = self._caches[self._regions.cache[index]]
        image_id = cache.image_ids[self._regions.image[index]]
        embedding = cache.embeddings(image_id)[self._regions.row[index]]
        item: dict[str, Any] = {
            "inputs": torch.from_numpy(embedding.astype(np.float32)),
            "label": int(self.labels[index]),
            "index": index,
            "tower": cache.manifest["weights_hash"],
        }
        return item | ({"weight": float(self.weights[index])} if self._balanced else {})


def _within(iou: NDArray[np.float64], limits: Sequence[float]) -> NDArray[np.bool_]:
    return (limits[0] <= iou) & (iou < limits[1])


def _check_ranges(grade: Sequence[float], background: Sequence[float] | None, parts: Mapping[str, float]) -> None:
    if len(grade) != 2 or not 0 < grade[0] < min(grade[1], 1.1):
        raise ValueError(f"`grade` of RegionSet must be (low, high) with 0 < low < high. Got {tuple(grade)}.")
    if background is not None and (len(background) != 2 or not 0 <= background[0] < background[1] <= grade[0]):
        raise ValueError(
            f"`background` of RegionSet must be (low, high) with 0 <= low < high <= {grade[0]:g}, where `grade` begins."
            f" Got {tuple(background)}."
        )
    for name, value in parts.items():
        if not 0 < value <= 1:
            raise ValueError(f"`{name}` of RegionSet must be in (0, 1]. Got {value}.")


def _listed(truth: Mapping[int | str, Truth], names: Sequence[str], split: str, path: Path, digest: str) -> ImageList:
    """The annotated boxes, by annotation id, as the few-shot draw takes them."""
    cleaned = tuple(clean_name(name) for name in names)
    entries = tuple(
        (str(number), int(label), cleaned[label])
        for known in truth.values()
        for number, label in zip(known.ids, known.labels, strict=True)
    )
    return ImageList(
        f"{clean_name(split).replace(' ', '_')}_boxes", "train", path.parent, entries, cleaned, path, digest
    )


def _check_images(cache: RegionCache, folder: str, truth: Mapping[int | str, Truth], path: Path) -> None:
    there = set(cache.image_ids)
    missing = [key for key, known in truth.items() if len(known.boxes) and key not in there]
    if missing:
        raise LookupError(
            f"The region cache {folder} must hold every image of {path} with a box. It has {len(there)} images, and "
            f"lacks {len(missing)}, such as {missing[0]!r}. Make it of these images, with tools/extract_regions.py."
        )


def _thinned(regions: _Regions, kept: float, seed: int) -> _Regions:
    """With a random part of the background alone, in order."""
    behind = np.flatnonzero(regions.label == BACKGROUND)
    count = round(kept * len(behind))
    if count == len(behind):
        return regions
    drawn = torch.randperm(len(behind), generator=torch.Generator().manual_seed(seed))[:count].numpy()
    return regions.only(np.sort(np.concatenate([np.flatnonzero(regions.label != BACKGROUND), behind[drawn]])))


def _weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """``N / (K n_c)`` for a region of class c, ``N / (2 n_b)`` for background, as the official release has it."""
    counts = np.bincount(labels - BACKGROUND, minlength=classes + 1)  # [K + 1], background first
    shares = np.full(classes + 1, float(classes))
    shares[0] = 2.0
    weights = len(labels) / (shares * np.maximum(counts, 1))
    return weights[labels - BACKGROUND]


def _tell(labels: NDArray[np.int64], names: Sequence[str], where: str) -> None:
    """What was found goes into the log; nothing found is an error."""
    counts = np.bincount(labels - BACKGROUND, minlength=len(names) + 1)
    if not counts[1:].sum():
        raise ValueError(f"Regions of RegionSet must show classes in {where}. Got none of {len(names)} classes.")
    absent = [name for name, count in zip(names, counts[1:], strict=True) if not count]
    shown = f"{counts[1:].sum()} regions of {len(names) - len(absent)} classes, {counts[0]} of background ({where})"
    print_log(f"RegionSet: {shown}", "current")
    if absent:
        more = ", ..." if absent[5:] else ""
        print_log(f"RegionSet: no region of {len(absent)}: {', '.join(absent[:5])}{more}", "current", level=30)
