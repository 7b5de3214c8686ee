"""LVIS's average precision: federated, by frequency and by group (K categories, T IoU thresholds, A area ranges)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from numpy.typing import NDArray

from subpt_dense.datasets.name_lists import FREQUENCIES
from subpt_dense.detection.federated import federated_precision, known_categories, require_evaluator
from subpt_dense.detection.metric import OVDMetric
from subpt_dense.evaluation import ResultTable
from subpt_dense.registry import METRICS

#: Detections kept: of an image, over all its categories; with ``fixed``, of a category, over all images.
PER_IMAGE, PER_CATEGORY = 300, 10_000
_IMAGE_KEYS = ("neg_category_ids", "not_exhaustive_category_ids")
_AREAS = {"s": 1, "m": 2, "l": 3}  # positions among the evaluator's area ranges; 0 is all
_DETAILS = {"ap75": "75", "ap_small": "s", "ap_medium": "m", "ap_large": "l"}


@METRICS.register_module()
class LVISMetric(OVDMetric):
    """Box or mask AP of LVIS v1, federated (arXiv 1908.03195), over the images that were evaluated.

    In an image only the categories count that it has or is known not to have; a detection that matches nothing is left
    out where its category is not labelled fully. The 300 best detections of an image are kept. Keys: those of
    :class:`OVDMetric` by group (``base_ap``, ``novel_ap50``, ``all_ap``, ...), the same for the groups ``rare``,
    ``common`` and ``frequent``, and LVIS's own ``segm_AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl``, ``APr``,
    ``APc``, ``APf`` with the metric's name before them; fractions in 0..1, -1 where there is no ground truth.

    Args:
        ann_file: ``lvis_v1_val.json``, or a file in its format.
        protocol: What this evaluation is called in results; ``fixed`` adds to it.
        metric: ``"bbox"`` or ``"segm"``; for both, use two metrics with a ``prefix`` each.
        fixed: Fixed AP (Dave et al., arXiv 2102.01066): the 10,000 best detections of each category over all images, in
            place of a limit an image, so that categories do not compete. The model must then give as many detections an
            image as it can (``test_cfg.rcnn.max_per_img`` above 300), and numbers are of another protocol.
        **kwargs: ``classwise``, ``format_only``, ``outfile_prefix``, ``prefix``, ``iou_thrs``, ``backend_args`` and
            ``collect_device`` as for :class:`OVDMetric`.

    Raises:
        ImportError: If faster-coco-eval is not installed.
        ValueError: As for :class:`OVDMetric`, and if ``ann_file`` is not LVIS's: an image without
            ``neg_category_ids`` or ``not_exhaustive_category_ids``, a category without ``frequency``.
    """

    default_prefix = "lvis"

    def __init__(self, *, ann_file: str, protocol: str, fixed: bool = False, **kwargs: Any) -> None:
        require_evaluator()
        refused = [key for key in ("proposal_nums", "metric_items", "use_mp_eval") if key in kwargs]
        if refused:
            raise ValueError(
                f"`{refused[0]}` is not for LVISMetric: LVIS keeps {PER_IMAGE} detections an image and has its own "
                "items. Leave it out, or use subpt_dense.OVDMetric."
            )
        if fixed and isinstance(protocol, str) and protocol.strip():
            protocol = f"{protocol}, fixed AP ({PER_CATEGORY:,} detections a class)"
        super().__init__(ann_file=ann_file, protocol=protocol, proposal_nums=(PER_IMAGE,), **kwargs)
        self.fixed = fixed
        self._check_file()

    def _check_file(self) -> None:
        truth = self._coco_api.dataset
        lacking = [
            f"image {one['id']} has no {key}" for one in truth["images"] for key in _IMAGE_KEYS if key not in one
        ]
        lacking += [
            f"category {one['name']!r} has the frequency {one.get('frequency')!r}"
            for one in truth["categories"]
            if one.get("frequency") not in FREQUENCIES
        ]
        if lacking:
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            raise ValueError(
                f"`ann_file` of LVISMetric must be LVIS's: `neg_category_ids` and `not_exhaustive_category_ids` of "
                f"every image, `frequency` ({', '.join(FREQUENCIES)}) of every category. In {self.ann_file} "
                f"{'; '.join(lacking[:3])}{more}."
            )

    def _match_classes(self) -> None:
        """Adds the groups by frequency."""
        super()._match_classes()
        frequency = {category["id"]: category["frequency"] for category in self._coco_api.dataset["categories"]}
        for letter, group in FREQUENCIES.items():
            self._members[group] = np.array([frequency[i] == letter for i in self.cat_ids])

    def _check_predictions(self, predictions: list[dict], logger: MMLogger) -> list[dict]:
        """The detections that are kept and, unless they are only written, that count."""
        checked = super()._check_predictions(predictions, logger)
        kept = _best_of_categories(checked) if self.fixed else [_best_of_image(one) for one in checked]
        if self.format_only:
            return kept
        known, ids = known_categories(self._coco_api.dataset, self.img_ids), np.array(self.cat_ids)
        return [_take(one, np.isin(ids[one["labels"]], [*known[one["img_id"]]])) for one in kept]

    def _evaluate(self, detections: list[dict]) -> tuple[np.ndarray, np.ndarray]:
        """Precision ``[T, R, K, A, 1]`` and recall ``[T, K, A, 1]``, K in label order, -1 without ground truth."""
        if self.metrics[0] == "segm":
            for detection in detections:
                detection.pop("bbox")  # the mask's area decides small, medium and large
        precision, recall = federated_precision(
            self._coco_api.dataset,
            detections,
            cat_ids=self.cat_ids,
            image_ids=self.img_ids,
            iou_thrs=self.iou_thrs,
            kind=self.metrics[0],
        )
        self._items = self._lvis_items(precision)
        return precision[..., None], recall[..., None]

    def _make_table(self, ap50: np.ndarray, ap: np.ndarray) -> ResultTable:
        """The table of :class:`OVDMetric` with LVIS's limit and further items, in 0..100."""
        table = super()._make_table(ap50, ap)
        del table.details["detections_per_image_and_class"]
        limit = {"detections_per_class": PER_CATEGORY} if self.fixed else {"detections_per_image": PER_IMAGE}
        items = ((key, self._items[f"AP{part}"]) for key, part in _DETAILS.items())
        table.details |= limit | {key: round(100 * value, 3) for key, value in items if value >= 0}
        return table

    def _host_scores(self, precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
        """LVIS's own items."""
        return {f"{self.metrics[0]}_{key}": value for key, value in self._items.items()}

    def _lvis_items(self, precision: NDArray[np.float64]) -> dict[str, float]:
        """LVIS's nine from precision ``[T, R, K, A]``."""
        items = {"AP": _mean(precision[..., 0])}
        for percent in (50, 75):
            items[f"AP{percent}"] = _mean(precision[np.isclose(self.iou_thrs, percent / 100), ..., 0])
        items |= {f"AP{key}": _mean(precision[..., area]) for key, area in _AREAS.items()}
        groups = ((letter, self._members[group]) for letter, group in FREQUENCIES.items())
        return items | {f"AP{letter}": _mean(precision[:, :, member, 0]) for letter, member in groups}


def _mean(precision: NDArray[np.float64]) -> float:
    present = precision[precision > -1]
    return float(present.mean()) if present.size else -1.0


def _best_of_image(prediction: dict) -> dict:
    best = np.argsort(-prediction["scores"], kind="stable")[:PER_IMAGE]
    return _take(prediction, np.isin(np.arange(len(prediction["scores"])), best))


def _best_of_categories(predictions: Sequence[dict]) -> list[dict]:
    """The best of each category over all images; ties go to earlier images."""
    labels = np.concatenate([one["labels"] for one in predictions])
    scores = np.concatenate([one["scores"] for one in predictions])
    order = np.lexsort((-scores, labels))  # by category, then by score; stable
    rank = np.arange(len(order)) - np.searchsorted(labels[order], labels[order])
    kept = np.zeros(len(order), dtype=bool)
    kept[order[rank < PER_CATEGORY]] = True
    ends = np.cumsum([len(one["labels"]) for one in predictions])[:-1]
    return [_take(one, mask) for one, mask in zip(predictions, np.split(kept, ends), strict=True)]


def _take(prediction: dict, kept: NDArray[np.bool_]) -> dict:
    """The prediction of one image with the detections ``kept`` ``[N]`` alone, in their order."""
    cut = {key: prediction[key][kept] for key in ("bboxes", "scores", "labels", "mask_scores") if key in prediction}
    if "masks" in prediction:
        cut["masks"] = [mask for mask, keep in zip(prediction["masks"], kept, strict=True) if keep]
    return prediction | cut
