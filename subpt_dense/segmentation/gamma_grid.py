"""Scores for many values of gamma in one pass over the images (K classes, G values, H x W pixels)."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subpt_dense.evaluation import harmonic
from subpt_dense.registry import METRICS
from subpt_dense.segmentation.metric import ZeroShotIoUMetric, count_pixels, map_digest


@METRICS.register_module()
class GammaGridMetric(ZeroShotIoUMetric):
    """:class:`ZeroShotIoUMetric` at the best of several gammas, which are subtracted from the seen classes' scores.

    The model must run with a gamma of 0 and leave its logits on the samples (``seg_logits``), as mmseg's segmentors do.
    Only the best seen and the best unseen class of a pixel matter, so that a further gamma costs three counts of pixels
    and no further forward pass; what is kept of an image is counts of the classes that occur in it. The best gamma has
    the highest hIoU, the smallest among equals. Use it on classes that are *held out of the seen ones*, never on the
    unseen classes themselves: see :mod:`subpt_dense.apis.calibration`.

    Args:
        gammas: The values to try, in units of a logit, all distinct.
        **kwargs: As for :class:`ZeroShotIoUMetric`.

    Attributes:
        table: Scores at the best gamma; its details hold that ``gamma`` and the ``grid``: by gamma ``S``, ``U``,
            ``hIoU`` and ``pAcc`` in 0..100.

    Raises:
        ValueError: If ``gammas`` is empty, not finite or repeats a value, or nothing is unseen; in evaluation also if
            a sample has no logits, or was predicted with another gamma than 0.
    """

    def __init__(self, *, gammas: Sequence[float], **kwargs: Any) -> None:
        values = sorted(float(gamma) for gamma in gammas)
        if not values or not np.isfinite(values).all() or len(set(values)) < len(values):
            raise ValueError(f"`gammas` of GammaGridMetric must be distinct finite numbers. Got {list(gammas)}.")
        if kwargs.get("format_only") or kwargs.get("output_dir") is not None:
            raise ValueError("`output_dir` of GammaGridMetric must be None, and `format_only` False: it only scores.")
        super().__init__(**kwargs)
        self.gammas = tuple(values)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch for each gamma.

        Args:
            data_batch: Not used.
            data_samples: Dicts with ``seg_logits`` (``data`` float ``[K, H, W]``) and ``gt_sem_seg`` (``data``
                ``[1, H, W]``).
        """
        names, members = self._classes(), self._members()
        if "unseen" not in members:
            raise ValueError(
                "GammaGridMetric needs unseen classes beside the seen ones in the data set's metainfo. Got none."
            )
        for sample in data_samples:
            where = str(sample.get("seg_map_path") or sample.get("img_path") or f"image {len(self.results)}")
            if "seg_logits" not in sample:
                raise ValueError(f"GammaGridMetric needs `seg_logits` on the samples. Got none for {where}.")
            if sample.get("gamma"):
                raise ValueError(
                    f"GammaGridMetric needs logits from which nothing was subtracted. Got gamma {sample['gamma']} for "
                    f"{where}: set model.decode_head.gamma=0."
                )
            logits = sample["seg_logits"]["data"]  # [K, H, W]
            labelled = sample["gt_sem_seg"]["data"].squeeze(0).to(logits.device)  # [H, W]
            seen = torch.as_tensor(members["seen"], device=logits.device)
            maps = predict_for(logits, seen, self.gammas)
            counts = [count_pixels(one, labelled, len(names), self.ignore_index, where) for one in maps]
            self.results.append(
                {
                    **_packed(torch.stack(counts)),
                    "digest": map_digest(where, labelled),
                    "folder": os.path.dirname(where),
                    "gamma": None,
                }
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Scores at the best gamma, and ``gamma`` itself; also sets :attr:`table`.

        Args:
            results: What :meth:`process` gathered.
        """
        if not results:
            return super().compute_metrics(results)  # which says so
        counts = torch.zeros(len(self.gammas), 4, len(self._classes()), dtype=torch.int64)
        for result in results:  # one by one: together they would not fit in memory
            _add(counts, result)
        grid = [{"gamma": gamma, **self._scores(counts[g])} for g, gamma in enumerate(self.gammas)]
        if any(row["hIoU"] is None for row in grid):
            raise ValueError(
                "GammaGridMetric needs pixels of seen and of unseen classes. Got images without: evaluate more of "
                "them, or hold out other classes."
            )
        best = max(range(len(grid)), key=lambda g: (grid[g]["hIoU"], -g))
        # The metric adds up images: the first one gets what all of them come to.
        sums = [counts[best], *[torch.zeros_like(counts[best])] * (len(results) - 1)]
        chosen = [
            {"counts": one, "digest": result["digest"], "folder": result["folder"], "gamma": self.gammas[best]}
            for one, result in zip(sums, results, strict=True)
        ]
        scores = super().compute_metrics(chosen)
        assert self.table is not None
        self.table.details["grid"] = {"rows": grid}
        return scores | {"gamma": self.gammas[best]}

    def _scores(self, counts: Tensor) -> dict[str, float | None]:
        """S, U, hIoU and pAcc in 0..100 of counts [4, K]; None where there is none."""
        groups: Mapping[str, float | None] = self._group_means(counts)
        seen, unseen = groups["seen"], groups["unseen"]
        both = None if seen is None or unseen is None else harmonic(seen, unseen)
        accuracy = 100 * int(counts[0].sum()) / max(int(counts[3].sum()), 1)
        return {"S": seen, "U": unseen, "hIoU": both, "pAcc": accuracy}


def _packed(counts: Tensor) -> dict[str, Tensor]:
    """Pixel counts of an image [G, 4, K] without what is zero or follows from the rest (P classes that occur).

    Returns:
        int32: ``classes`` ``[P]``, ``right`` and ``found`` ``[G, P]``, ``labelled`` ``[P]``, the same for every gamma.
    """
    classes = counts.sum(dim=(0, 1)).nonzero().squeeze(1)
    right, _, found, labelled = counts[:, :, classes].unbind(dim=1)  # [G, P] each
    kept = {"classes": classes, "right": right, "found": found, "labelled": labelled[0]}
    return {key: value.int() for key, value in kept.items()}  # copies: nothing holds on to the rest


def _add(total: Tensor, packed: Mapping[str, Tensor]) -> None:
    """Add an image's :func:`_packed` counts to int64 [G, 4, K]."""
    right, found, labelled = (packed[key].long() for key in ("right", "found", "labelled"))
    rows = [right, found + labelled - right, found, labelled.expand_as(found)]  # as `count_pixels` orders them
    total.index_add_(2, packed["classes"].long(), torch.stack(rows, dim=1))


def predict_for(logits: Tensor, seen: Tensor, gammas: Sequence[float]) -> list[Tensor]:
    """Class maps for each gamma: the argmax of the logits, less gamma for the seen classes.

    Args:
        logits: ``[K, H, W]``.
        seen: bool ``[K]``, some of them True and some False.
        gammas: G values.

    Returns:
        G maps ``[H, W]`` int64 in [0, K).
    """
    best = []
    for member in (seen, ~seen):
        index = member.nonzero().squeeze(1)  # class of each position
        value, position = logits[index].max(dim=0)  # [H, W]
        best.append((value, index[position]))
    (old, old_class), (new, new_class) = best
    maps = []
    for gamma in gammas:
        level = old - gamma
        # An equal logit goes to the class that comes first, as with argmax.
        unseen = (new > level) | ((new == level) & (new_class < old_class))
        maps.append(torch.where(unseen, new_class, old_class))
    return maps
