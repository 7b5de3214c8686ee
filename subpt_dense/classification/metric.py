"""Accuracy on base and novel classes, each among its own names, and their harmonic mean (B images, K classes)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from subpt_dense.evaluation import ResultTable, harmonic
from subpt_dense.registry import METRICS

_GROUPS = ("base", "novel")


@METRICS.register_module()
class GroupAccuracy(BaseMetric):
    """Top-1 accuracy in percent: base-to-novel generalisation as CoCoOp has it (arXiv 2203.05557, section 4.1).

    An image of a base class is classified among the base names, one of a novel class among the novel names; ``all``
    is the accuracy of every image among every name (generalised). One pass over the data gives them all: a row does
    not depend on the other names.

    Args:
        protocol: What the table calls this evaluation.
        collect_device: ``cpu`` or ``gpu``.
        prefix: Of the logged keys.

    Attributes:
        table: The last evaluation's :class:`~subpt_dense.evaluation.ResultTable`.
    """

    default_prefix = "cls"

    def __init__(self, protocol: str, collect_device: str = "cpu", prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.protocol = protocol
        self.table: ResultTable | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Tensor]]) -> None:
        """Take up a batch's ``logits`` ``[B, K]``, ``label`` ``[B]`` and ``index`` ``[B]``."""
        names = self.dataset_meta["classes"]
        base = torch.tensor([name in set(self.dataset_meta["base_classes"]) for name in names])
        for sample in data_samples:
            logits, label = sample["logits"].float().cpu(), sample["label"].cpu()
            if logits.shape[1] != len(names):
                raise ValueError(
                    f"Predictions for GroupAccuracy must have a logit for each of the {len(names)} names of the data "
                    f"set. Got {logits.shape[1]}."
                )
            is_base = base[label]
            other = is_base[:, None] != base  # names of the other group
            within = logits.masked_fill(other, -torch.inf).argmax(dim=1) == label
            among_all = logits.argmax(dim=1) == label
            # Batches, not images: mmengine looks into every entry.
            self.results.append(torch.stack([sample["index"].cpu(), is_base, within, among_all], dim=1))  # [B, 4]

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        """``base``, ``novel``, ``harmonic`` where both are there, and ``all``, in percent."""
        images = {
            index: hits for index, *hits in torch.cat(results).tolist()
        }  # several processes repeat some at the end
        right = {
            "base": [within for is_base, within, _ in images.values() if is_base],
            "novel": [within for is_base, within, _ in images.values() if not is_base],
            "all": [among_all for *_, among_all in images.values()],
        }
        if not self.dataset_meta["novel_classes"]:
            del right["base"]  # nobody is novel, and nobody is base
        scores = {group: 100 * sum(hits) / len(hits) for group, hits in right.items() if hits}
        if all(group in scores for group in _GROUPS):
            scores["harmonic"] = harmonic(scores["base"], scores["novel"])
        meta = self.dataset_meta
        counts = {"base": len(meta["base_classes"]), "novel": len(meta["novel_classes"]), "all": len(meta["classes"])}
        counts["harmonic"] = counts["all"]
        self.table = ResultTable(
            protocol=self.protocol,
            label_space="base and novel images each among their own names; all: among all names",
            annotation_file=str(meta["annotation_file"]),
            annotation_sha256=meta["annotation_sha256"],
            images=len(images),
            groups={group: {"accuracy": score, "classes": counts[group]} for group, score in scores.items()},
            details={"data_set": meta["set"], "part": meta["part"]},
        )
        return scores
