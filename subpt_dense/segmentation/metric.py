"""Mean intersection over union of seen and of unseen classes, their harmonic mean, and pixel accuracy.

Legend: K classes, H x W pixels.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric
from PIL import Image
from torch import Tensor

from subpt_dense.evaluation import ResultTable, harmonic
from subpt_dense.registry import METRICS

#: Rows of an image's pixel counts [4, K].
_INTERSECT, _UNION, _PREDICTED, _LABELLED = range(4)


@METRICS.register_module()
class ZeroShotIoUMetric(IoUMetric):
    """``pAcc``, ``S``, ``U``, ``hIoU`` and ``mIoU`` over the joint label space (zsseg, arXiv 2112.14757, section 4.1).

    ``S`` and ``U`` are the mean IoU of the seen (``base_classes`` of the metainfo) and the unseen classes
    (``novel_classes``), ``hIoU = 2SU / (S + U)``. Every pixel is classified among all K names, and classes are grouped
    *by name*. All scores are in 0..100, as mmseg's are, and not rounded; -1 stands for a group that has no score. The
    host's own keys (``aAcc``, ``mIoU``, ``mAcc``, ...) come as well, from the same counts.

    As in mmseg: pixels labelled ``ignore_index`` do not count; a class with neither a labelled nor a predicted pixel in
    the whole set has no IoU and is left out of the means; a class that is only predicted has an IoU of 0. Unlike mmseg,
    which counts in float32 and drops labels outside [0, K), counts are whole numbers and such a label is an error.

    Args:
        protocol: What this evaluation is called in results, such as ``"voc-15/5 generalised"``.
        classwise: Add IoU and accuracy of each class to the table's details and to the log.
        **kwargs: As for ``mmseg.IoUMetric``: ``ignore_index``, ``iou_metrics``, ``prefix``, ``output_dir``, ...;
            ``nan_to_num`` must stay None.

    Attributes:
        table: The last evaluation as a :class:`subpt_dense.evaluation.ResultTable` on the main process, else ``None``.
            Its hash is over file names and contents of the evaluated label maps; ``gamma`` (what was subtracted from
            the seen classes' scores) is among its details where the model writes it on its samples.

    Raises:
        ValueError: On construction, if an argument is not as above; in evaluation, if the data set does not say which
            classes are seen and unseen, a map has another size or a label that has no class, or no pixel is labelled.
    """

    def __init__(self, *, protocol: str, classwise: bool = False, **kwargs: Any) -> None:
        if not isinstance(protocol, str) or not protocol.strip():
            raise ValueError(
                "`protocol` of ZeroShotIoUMetric must be a non-empty string, so that results can name it. Got "
                f"{protocol!r}."
            )
        if kwargs.get("nan_to_num") is not None:
            raise ValueError(
                "`nan_to_num` of ZeroShotIoUMetric must be None: absent classes are left out of the means. Got "
                f"{kwargs['nan_to_num']!r}."
            )
        kinds = kwargs.pop("iou_metrics", ["mIoU"])
        kinds = [kinds] if isinstance(kinds, str) else list(kinds)
        if "mIoU" not in kinds or set(kinds) - {"mIoU", "mDice", "mFscore"}:
            raise ValueError(
                f"`iou_metrics` of ZeroShotIoUMetric must hold 'mIoU' and may hold 'mDice' and 'mFscore'. Got {kinds}."
            )
        super().__init__(iou_metrics=kinds, **kwargs)
        self.protocol, self.classwise = protocol, classwise
        self.table: ResultTable | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch.

        Args:
            data_batch: Not used.
            data_samples: Dicts with ``pred_sem_seg`` and, unless ``format_only``, ``gt_sem_seg``: each holds ``data``
                ``[1, H, W]``, integer.
        """
        names = self._classes()
        for sample in data_samples:
            where = str(sample.get("seg_map_path") or sample.get("img_path") or f"image {len(self.results)}")
            predicted = sample["pred_sem_seg"]["data"].squeeze(0)  # [H, W]
            if not self.format_only:
                labelled = sample["gt_sem_seg"]["data"].squeeze(0).to(predicted.device)  # [H, W]
                counts = count_pixels(predicted, labelled, len(names), self.ignore_index, where)
                self.results.append(
                    {
                        "counts": counts,
                        "digest": map_digest(where, labelled),
                        "folder": os.path.dirname(where),
                        "gamma": sample.get("gamma"),
                    }
                )
            if self.output_dir is not None:
                self._write(predicted, sample, len(names))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Scores of all processed images; also sets :attr:`table` and logs it.

        Args:
            results: What :meth:`process` gathered.
        """
        logger = MMLogger.get_current_instance()
        self.table = None
        if self.format_only:
            logger.info(f"Predictions are saved in {self.output_dir}.")
            return {}
        if not results:
            raise ValueError(
                "ZeroShotIoUMetric needs at least one evaluated image. Got none: is the test data set empty?"
            )
        counts = sum((result["counts"] for result in results), start=torch.zeros((), dtype=torch.long))  # [4, K]
        if not counts[_LABELLED].sum():
            raise ValueError(
                f"ZeroShotIoUMetric needs labelled pixels. Got {len(results)} images all of whose pixels are ignored "
                f"({self.ignore_index}): does the data set's split name the classes of these label maps?"
            )
        members, scores = self._members(), self._group_means(counts)
        accuracy = 100 * int(counts[_INTERSECT].sum()) / int(counts[_LABELLED].sum())
        seen, unseen = scores.get("seen"), scores.get("unseen")
        both = None if seen is None or unseen is None else harmonic(seen, unseen)
        self.table = self._make_table(results, counts, scores, accuracy, both)
        logger.info(f"IoU by group:\n{self.table.to_text()}")
        if self.classwise:
            iou = 100 * _ratio(counts[_INTERSECT], counts[_UNION])
            lines = [f"{name}: {value:.2f}" for name, value in zip(self._classes(), iou, strict=True)]
            logger.info("IoU by class:\n" + "\n".join(lines))
        ours = {"pAcc": accuracy, "S": seen, "U": unseen, "hIoU": both, "mIoU": scores["all"]}
        ours = {key: value for key, value in ours.items() if key not in ("S", "U", "hIoU") or "unseen" in members}
        return self._host_scores(counts) | {key: -1.0 if value is None else value for key, value in ours.items()}

    def _classes(self) -> tuple[str, ...]:
        meta = self.dataset_meta or {}
        absent = [key for key in ("classes", "base_classes", "novel_classes") if key not in meta]
        if absent:
            raise ValueError(
                f"ZeroShotIoUMetric needs {', '.join(absent)} in the data set's metainfo. Got {sorted(meta)}. Use "
                "subpt_dense.ZSSegDataset."
            )
        if 0 <= self.ignore_index < len(meta["classes"]):
            raise ValueError(
                f"`ignore_index` of ZeroShotIoUMetric must be no label of the {len(meta['classes'])} classes. Got "
                f"{self.ignore_index}: give data set and metric 65535."
            )
        return tuple(meta["classes"])

    def _members(self) -> dict[str, np.ndarray]:
        """group -> bool [K] in label order; "all" alone where the names are not divided."""
        names = self._classes()
        base, novel = set(self.dataset_meta["base_classes"]), set(self.dataset_meta["novel_classes"])
        unclear = [name for name in names if (name in base) == (name in novel)]
        if unclear:
            raise ValueError(f"Each class must be either seen or unseen. Got {', '.join(unclear)} in neither or both.")
        everything = np.ones(len(names), dtype=bool)
        if not (base and novel):
            return {"all": everything}
        seen = np.array([name in base for name in names])
        return {"seen": seen, "unseen": ~seen, "all": everything}

    def _group_means(self, counts: Tensor) -> dict[str, float | None]:
        """Mean IoU in 0..100 of each group, from counts [4, K]; None where no class of it has one."""
        iou = _ratio(counts[_INTERSECT], counts[_UNION])
        return {group: _percent(iou[member]) for group, member in self._members().items()}

    def _make_table(
        self,
        results: Sequence[Mapping[str, Any]],
        counts: Tensor,
        scores: Mapping[str, float | None],
        accuracy: float,
        both: float | None,
    ) -> ResultTable:
        """The table of group means in 0..100; counts int64 [4, K]."""
        names, members = self._classes(), self._members()
        groups: dict[str, dict[str, Any]] = {
            group: {"miou": scores[group], "classes": int(member.sum())} for group, member in members.items()
        }
        groups["all"] |= {"pacc": accuracy} | ({"hiou": both} if "unseen" in members else {})
        shown = [f"{groups[group]['classes']} {group}" for group in ("seen", "unseen") if group in groups]
        present = counts[_UNION] > 0
        details: dict[str, Any] = {"pixels": int(counts[_LABELLED].sum()), "classes_scored": int(present.sum())}
        gammas = {result["gamma"] for result in results} - {None}
        if gammas:
            details["gamma"] = float(gammas.pop()) if len(gammas) == 1 else sorted(map(float, gammas))
        if self.classwise:
            iou, recall = _ratio(counts[_INTERSECT], counts[_UNION]), _ratio(counts[_INTERSECT], counts[_LABELLED])
            details["per_class"] = {
                name: {"iou": _percent(iou[k : k + 1]), "acc": _percent(recall[k : k + 1])}
                for k, name in enumerate(names)
            }
        folders = sorted({result["folder"] for result in results})
        digests = "\n".join(sorted(result["digest"] for result in results))
        return ResultTable(
            protocol=self.protocol,
            label_space=f"{len(names)} names" + (f" ({' + '.join(shown)})" if shown else ""),
            annotation_file=os.path.commonpath(folders) or "label maps" if all(folders) else "label maps",
            annotation_sha256=hashlib.sha256(digests.encode()).hexdigest(),
            images=len(results),
            groups=groups,
            details=details,
        )

    def _host_scores(self, counts: Tensor) -> dict[str, float]:
        """The host's means in 0..100 of counts [4, K], not rounded, -1 where there is none."""
        areas = [row.double() for row in counts]
        host: OrderedDict = OrderedDict(self.total_area_to_metrics(*areas, self.metrics, None, self.beta))
        means = {key if key == "aAcc" else f"m{key}": np.atleast_1d(value) for key, value in host.items()}
        return {key: -1.0 if (mean := _percent(value)) is None else mean for key, value in means.items()}

    def _write(self, predicted: Tensor, sample: Mapping[str, Any], classes: int) -> None:
        """The prediction as a PNG of label ids, 16 bits where 8 would not hold them; 0 stays free where it was."""
        labels = predicted.cpu().numpy() + bool(sample.get("reduce_zero_label"))
        path = Path(self.output_dir) / f"{Path(sample['img_path']).stem}.png"
        if is_main_process():
            path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        Image.fromarray(labels.astype(np.uint8 if classes < 255 else np.uint16)).save(temporary, "PNG")
        os.replace(temporary, path)


def count_pixels(predicted: Tensor, labelled: Tensor, classes: int, ignore_index: int, where: str) -> Tensor:
    """Pixel counts of one image: right ones, union, predicted ones, labelled ones.

    Args:
        predicted: Integer ``[H, W]`` in [0, K).
        labelled: Integer ``[H, W]`` in [0, K) or ``ignore_index``, on the same device.
        classes: K.
        ignore_index: Label of the pixels that do not count, whatever was predicted there.
        where: What the image is called in errors.

    Returns:
        int64 ``[4, K]`` on the CPU.

    Raises:
        ValueError: If the shapes differ, or a pixel that counts has a value outside [0, K).
    """
    if predicted.shape != labelled.shape:
        raise ValueError(
            f"The prediction for {where} must have the size of its label map, {list(labelled.shape)}. Got "
            f"{list(predicted.shape)}."
        )
    counted = labelled != ignore_index
    # Predictions are checked where they are ignored, too: a wrong vocabulary should not hide there.
    for kind, values in (("Predicted labels", predicted), ("Labels", labelled[counted])):
        if values.numel() and not (values.min() >= 0 and values.max() < classes):
            raise ValueError(
                f"{kind} of {where} must be in [0, {classes - 1}], for {classes} classes. Got {int(values.min())} to "
                f"{int(values.max())}."
            )
    predicted, labelled = predicted[counted].long(), labelled[counted].long()  # [P]
    right, found, true = (
        torch.bincount(values, minlength=classes).cpu()
        for values in (labelled[predicted == labelled], predicted, labelled)
    )
    return torch.stack([right, found + true - right, found, true])


def map_digest(where: str, labelled: Tensor) -> str:
    """File name, size and SHA-256 of a label map ``[H, W]`` as it is evaluated."""
    values = labelled.cpu().numpy().astype("<i4")  # [H, W]
    return f"{os.path.basename(where)} {values.shape} {hashlib.sha256(values.tobytes()).hexdigest()}"


def _ratio(part: Tensor, whole: Tensor) -> np.ndarray:
    """``part / whole`` in 0..1, float64 [K]; NaN where ``whole`` is 0."""
    return (part.double() / whole.double()).numpy()


def _percent(values: np.ndarray) -> float | None:
    """Mean of the scores that exist, in 0..100; ``None`` if none does."""
    present = values[~np.isnan(values)]
    return float(present.mean() * 100) if present.size else None
