"""Cross-entropy for regions of which some show no class (N regions, K classes)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from subpt_dense.registry import MODELS


@MODELS.register_module()
class SoftBackground(nn.Module):
    """Cross-entropy whose background is pushed to the uniform distribution: DetPro's "soft background".

    ``-log p_y`` for a region of class y, ``-mean_k log p_k`` for one of no class; p is the softmax over the K class
    names alone, there is no background row. The mean over regions is weighted. Source: arXiv 2203.14940, background
    interpretation; the weighted mean is the official release's.
    """

    def forward(self, logits: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss, a float32 scalar >= 0; 0 without regions.

        Args:
            logits: ``[N, K]``, of any floating type; N may be 0.
            label: ``[N]`` int64 in ``[-1, K - 1]``; -1 is background.
            weight: ``[N]``, >= 0; what each region counts. None: all the same.

        Raises:
            ValueError: If the shapes do not fit each other.
        """
        shapes = [list(tensor.shape) for tensor in (logits, label, weight) if tensor is not None]
        if logits.ndim != 2 or any(shape != [len(logits)] for shape in shapes[1:]):
            raise ValueError(
                "`logits`, `label` and `weight` of SoftBackground must have the shapes [N, K], [N] and [N]. "
                f"Got {', '.join(map(str, shapes))}."
            )
        log_p = log_softmax(logits.float(), dim=1)  # [N, K]
        of_label = log_p.gather(1, label.clamp(min=0)[:, None])[:, 0]  # [N]
        losses = -torch.where(label < 0, log_p.mean(dim=1), of_label)
        weight = torch.ones_like(losses) if weight is None else weight.to(losses)
        return (weight * losses).sum() / weight.sum().clamp(min=torch.finfo(losses.dtype).tiny)
