"""COCO average precision by group: base, novel, all.

Legend: K classes, T IoU thresholds, R recall levels, A area ranges, M detection limits.
"""

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCOeval, COCOevalMP
from mmdet.evaluation import OVCocoMetric
from mmengine.fileio import get_local_path, load
from mmengine.logging import MMLogger

from subpt_dense.datasets import file_sha256
from subpt_dense.detection.dataset import NamedCOCO, match_names
from subpt_dense.evaluation import ResultTable
from subpt_dense.registry import METRICS

_AREAS = {"": 0, "50": 0, "75": 0, "s": 1, "m": 2, "l": 3}  # positions in COCOeval's area ranges; 0 is all
_ITEMS = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")


@METRICS.register_module()
class OVDMetric(OVCocoMetric):
    """Box or mask AP over the base, the novel and all classes of the running data set.

    Gives the keys of mmdet's ``OVCocoMetric`` (``base_ap50``, ``base_ap``, ``novel_ap50``, ``novel_ap``, ``bbox_mAP``,
    ...), and ``all_ap50`` and ``all_ap``: fractions in 0..1, not rounded, -1 for a group without ground truth. Classes
    are grouped *by name*, so neither the order of labels nor the order or the ids of the file's categories matters
    (mmdet groups by position, after pycocotools has sorted the ids). Only the images that were evaluated count: a data
    set cut with ``indices`` is scored against its own boxes. No detection at all is a score of 0.

    Args:
        ann_file: Ground truth in COCO format.
        protocol: What this evaluation is called in results, such as ``"coco-ovd-48/17 generalised"``.
        metric: ``"bbox"`` or ``"segm"``; for both, use two metrics with a ``prefix`` each.
        **kwargs: As for ``mmdet.CocoMetric``: ``classwise``, ``format_only``, ``outfile_prefix``, ``prefix``, ...;
            ``iou_thrs`` must hold 0.5. ``proposal_nums`` are detection limits per image and class: the largest one
            holds, except that ``mAP`` takes 100 where it is among them, as in mmdet.

    Attributes:
        table: The last evaluation as a :class:`subpt_dense.evaluation.ResultTable` on the main process, else ``None``.

    Raises:
        ValueError: On construction, if an argument is not as above or ``ann_file`` holds no annotations; in evaluation,
            if the data set does not say which classes are base and novel, the file lacks a class or an image, or a
            label has no class.
    """

    def __init__(self, *, ann_file: str, protocol: str, metric: str | Sequence[str] = "bbox", **kwargs: Any) -> None:
        metrics = [metric] if isinstance(metric, str) else list(metric)
        if len(metrics) != 1 or metrics[0] not in ("bbox", "segm"):
            raise ValueError(
                f"`metric` of OVDMetric must be 'bbox' or 'segm'. Got {metric!r}. For both, use two metrics with a "
                "`prefix` each."
            )
        for name, value in (("ann_file", ann_file), ("protocol", protocol)):
            if not isinstance(value, str) or not value.strip():
                raise ValueError(
                    f"`{name}` of OVDMetric must be a non-empty string, so that results can name it. Got {value!r}."
                )
        super().__init__(metric=metrics, **kwargs)
        self.iou_thrs: np.ndarray = np.array(self.iou_thrs, dtype=np.float64).reshape(-1)
        if not np.isclose(self.iou_thrs, 0.5).any():
            raise ValueError(f"`iou_thrs` of OVDMetric must hold 0.5, for AP50. Got {self.iou_thrs.tolist()}.")
        self.proposal_nums: list[int] = sorted(self.proposal_nums)
        for item in self.metric_items or ():
            _parse_item(item, self.proposal_nums)
        self.ann_file = ann_file
        self.protocol = protocol
        self.table: ResultTable | None = None
        with get_local_path(ann_file, backend_args=self.backend_args) as local_path:
            self._sha256 = file_sha256(local_path)
            self._coco_api = NamedCOCO(local_path)
        _number_annotations(self._coco_api)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Scores of all processed images; also sets :attr:`table` and logs it.

        Args:
            results: (ground truth, prediction) of each image, as gathered by ``process``.
        """
        logger = MMLogger.get_current_instance()
        self.table = None
        self._match_classes()
        predictions = self._check_predictions([prediction for _, prediction in results], logger)
        with tempfile.TemporaryDirectory() as folder:
            prefix = self.outfile_prefix or os.path.join(folder, "results")
            files = self.results2json(predictions, prefix)
            if self.metrics[0] not in files:
                raise ValueError("`metric` of OVDMetric is 'segm', but the model predicts no masks. Use metric='bbox'.")
            if self.format_only:
                logger.info(f"Detections are saved in {os.path.dirname(prefix) or '.'}.")
                return {}
            detections = load(files[self.metrics[0]])
        if not detections:
            logger.warning(f"No detection in {len(self.img_ids)} images: every class with ground truth scores 0.")
        precision, recall = self._evaluate(detections)
        ap50 = _mean(precision[np.isclose(self.iou_thrs, 0.5), :, :, 0, -1])
        ap = _mean(precision[:, :, :, 0, -1])
        self.table = self._make_table(ap50, ap)
        logger.info(f"{self.metrics[0]} AP by group:\n{self.table.to_text()}")
        return self._group_scores(ap50, ap, logger) | self._host_scores(precision, recall)

    def _match_classes(self) -> None:
        """Category ids of the running classes, in label order as ``results2json`` needs them, and their groups."""
        meta = self.dataset_meta or {}
        absent = [key for key in ("classes", "base_classes", "novel_classes") if key not in meta]
        if absent:
            raise ValueError(
                f"OVDMetric needs {', '.join(absent)} in the data set's metainfo. Got {sorted(meta)}. Use "
                "subpt_dense.OVCocoDataset."
            )
        self._classes = tuple(meta["classes"])
        base, novel = set(meta["base_classes"]), set(meta["novel_classes"])
        unclear = [name for name in self._classes if (name in base) == (name in novel)]
        if unclear:
            raise ValueError(f"Each class must be either base or novel. Got {', '.join(unclear)} in neither or both.")
        self.cat_ids = match_names(self._classes, self._coco_api.dataset["categories"], where=self.ann_file)
        # group -> positions in label order
        self._members = {
            "base": np.array([name in base for name in self._classes]),
            "novel": np.array([name in novel for name in self._classes]),
            "all": np.ones(len(self._classes), dtype=bool),
        }
        self.base_cat_ids, self.novel_cat_ids = (
            [i for i, member in zip(self.cat_ids, self._members[group], strict=True) if member]
            for group in ("base", "novel")
        )
        if not (base and novel):  # a set for transfer, its names not divided
            self._members = {"all": self._members["all"]}

    def _check_predictions(self, predictions: list[dict], logger: MMLogger) -> list[dict]:
        """Each image once, known to the file, with labels that have a class. Sets the evaluated image ids."""
        if not predictions:
            raise ValueError("OVDMetric needs at least one evaluated image. Got none: is the test data set empty?")
        unique: dict[Any, dict] = {}
        for prediction in predictions:
            unique.setdefault(prediction["img_id"], prediction)
        if len(unique) < len(predictions):
            logger.warning(
                f"{len(predictions) - len(unique)} results are of an image already evaluated: the first one counts."
            )
        foreign = [img_id for img_id in unique if img_id not in self._coco_api.imgs]
        if foreign:
            raise ValueError(
                f"`ann_file` of OVDMetric must hold every evaluated image. {len(foreign)} of {len(unique)} are not in "
                f"{self.ann_file}, such as id {foreign[0]!r}: do the data set and the metric name the same file?"
            )
        labels = np.concatenate([prediction["labels"] for prediction in unique.values()])
        if labels.size and not (labels.min() >= 0 and labels.max() < len(self._classes)):
            raise ValueError(
                f"Predicted labels must be in [0, {len(self._classes) - 1}], for {len(self._classes)} classes. "
                f"Got {labels.min()} to {labels.max()}: the model's vocabulary is another."
            )
        self.img_ids = list(unique)
        if len(unique) < len(self._coco_api.imgs):
            logger.warning(f"Scored on {len(unique)} of the {len(self._coco_api.imgs)} images of {self.ann_file}.")
        return list(unique.values())

    def _evaluate(self, detections: list[dict]) -> tuple[np.ndarray, np.ndarray]:
        """pycocotools' precision [T, R, K, A, M] and recall [T, K, A, M], K in label order, -1 without ground truth."""
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            if self.metrics[0] == "segm":
                for detection in detections:
                    detection.pop("bbox")  # else the box's area, not the mask's, would decide small, medium and large
            found = self._coco_api.loadRes(detections) if detections else _no_detections(self._coco_api)
            evaluator = (COCOevalMP if self.use_mp_eval else COCOeval)(self._coco_api, found, self.metrics[0])
            evaluator.params.catIds = sorted(self.cat_ids)  # evaluate() sorts them in any case
            evaluator.params.imgIds = self.img_ids
            evaluator.params.maxDets = self.proposal_nums
            evaluator.params.iouThrs = self.iou_thrs
            evaluator.evaluate()
            evaluator.accumulate()
        order = np.searchsorted(sorted(self.cat_ids), self.cat_ids)  # label -> position among the sorted ids
        return evaluator.eval["precision"][:, :, order], evaluator.eval["recall"][:, order]

    def _make_table(self, ap50: np.ndarray, ap: np.ndarray) -> ResultTable:
        """The table of per-class scores [K] in 0..1 (NaN without ground truth)."""
        groups = {
            group: {"ap50": _percent(ap50[member]), "ap": _percent(ap[member]), "classes": int(member.sum())}
            for group, member in self._members.items()
        }
        counts = {group: groups[group]["classes"] for group in ("base", "novel") if group in groups}
        shown = [f"{count} {group}" for group, count in counts.items() if count]
        details: dict[str, Any] = {
            "ap_of": self.metrics[0],
            "images_in_file": len(self._coco_api.imgs),
            "detections_per_image_and_class": self.proposal_nums[-1],
        }
        if self.classwise:
            details["per_class"] = {
                name: {"ap50": _percent(ap50[k : k + 1]), "ap": _percent(ap[k : k + 1])}
                for k, name in enumerate(self._classes)
            }
        return ResultTable(
            protocol=self.protocol,
            label_space=f"{len(self._classes)} names" + (f" ({' + '.join(shown)})" if shown else ""),
            annotation_file=self.ann_file,
            annotation_sha256=self._sha256,
            images=len(self.img_ids),
            groups=groups,
            details=details,
        )

    def _group_scores(self, ap50: np.ndarray, ap: np.ndarray, logger: MMLogger) -> dict[str, float]:
        """``{group}_ap50`` and ``{group}_ap``, and with ``classwise`` also ``{class}_precision``."""
        scores = {}
        for group, member in self._members.items():
            for key, values in (("ap50", ap50), ("ap", ap)):
                percent = _percent(values[member])
                scores[f"{group}_{key}"] = -1.0 if percent is None else percent / 100
        if self.classwise:
            lines = [f"{name}: {a:.3f} {b:.3f}" for name, a, b in zip(self._classes, ap50, ap, strict=True)]
            logger.info("AP50 and AP by class:\n" + "\n".join(lines))
            present = np.nan_to_num(ap, nan=-1.0)
            scores |= {f"{name}_precision": float(value) for name, value in zip(self._classes, present, strict=True)}
        return scores

    def _host_scores(self, precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
        """mmdet's own items, not rounded: ``metric_items``, or by default mAP and its five variants."""
        scores = {}
        for item in self.metric_items or _ITEMS:
            kind, part, limit = _parse_item(item, self.proposal_nums)
            values = precision if kind == "mAP" else recall[:, None]
            if part in ("50", "75"):
                values = values[np.isclose(self.iou_thrs, int(part) / 100)]
            values = values[:, :, :, _AREAS[part], limit]
            values = values[values > -1]
            scores[f"{self.metrics[0]}_{item}"] = float(values.mean()) if values.size else -1.0
        return scores


def _parse_item(item: str, limits: Sequence[int]) -> tuple[str, str, int]:
    """("mAP" or "AR", IoU or area, position among the detection limits) of one of mmdet's metric items."""
    match = re.fullmatch(r"(?:(mAP)(?:_(50|75|s|m|l))?|(AR)(?:_(s|m|l))?@(\d+))", item)
    limit = int(match[5]) if match and match[3] else 100 if item == "mAP" and 100 in limits else limits[-1]
    if match is None or limit not in limits:
        raise ValueError(
            f"`metric_items` of OVDMetric may hold {', '.join(_ITEMS)}, and AR@n, AR_s@n, AR_m@n and AR_l@n for n "
            f"among `proposal_nums` ({', '.join(map(str, limits))}). Got {item!r}."
        )
    return match[1] or match[3], match[2] or match[4] or "", list(limits).index(limit)


def _number_annotations(api: NamedCOCO) -> None:
    """Give every annotation an id above 0 and of its own.

    pycocotools counts a match with annotation 0 as a miss, and loses annotations that share an id.
    """
    annotations = api.dataset["annotations"]
    for annotation in annotations:
        annotation.setdefault("iscrowd", 0)
    ids = {annotation["id"] for annotation in annotations}
    if len(ids) < len(annotations) or 0 in ids:
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number
        api.createIndex()


def _no_detections(api: NamedCOCO) -> NamedCOCO:
    found = NamedCOCO()
    found.dataset = {"images": api.dataset["images"], "categories": api.dataset["categories"], "annotations": []}
    found.createIndex()
    return found


def _mean(precision: np.ndarray) -> np.ndarray:
    """Mean over T and R of ``[T, R, K]``, per class ``[K]``; NaN for a class without ground truth."""
    return np.where((precision > -1).all(axis=(0, 1)), precision.mean(axis=(0, 1)), np.nan)


def _percent(values: np.ndarray) -> float | None:
    """Mean of the scores that exist, in 0..100; ``None`` if none does."""
    present = values[~np.isnan(values)]
    return float(present.mean() * 100) if present.size else None
