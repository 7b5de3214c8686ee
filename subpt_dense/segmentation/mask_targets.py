"""Mask targets that say "nobody labelled this": 1 inside a mask, 0 outside, :data:`UNLABELLED` where nobody knows.

MaskFormer-like losses turn a label map into one binary mask per class. A pixel labelled 255 is in none of them, and
thereby a negative of every class: the unseen classes of zero-shot training are taught to be nothing. What is here lets
such pixels take no part, in the matching as in the mask losses.

255 does not say why a pixel has no label. Pixels of unseen classes have it, but so has the padding, and the whole
background where it is no class (VOC 15/5 and Context's 59 names, through ``reduce_zero_label``). All of them are left
out: in an image with one labelled class, that class's mask then has no negative pixel.

Legend: Q queries, G ground-truth masks, P sampled points, H x W pixels of the label map, h x w cells of a mask.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmcv.ops import point_sample
from mmengine.structures import InstanceData
from mmseg.structures import SegDataSample
from torch import Tensor

#: In integer masks. In floating ones it is NaN: a point interpolated from any unlabelled pixel then is NaN, too.
UNLABELLED = -1
#: A logit whose sigmoid is exactly 0 in float32 and float16, and whose losses against 0 are exactly 0.
_SURELY_OUTSIDE = -1e4


def mask_instances(
    samples: Sequence[SegDataSample], ignore_index: int, *, mark: bool, floating: bool = False
) -> list[InstanceData]:
    """One mask for every class that an image has.

    Args:
        samples: With label maps ``[1, H, W]`` as ``gt_sem_seg``.
        ignore_index: The label of pixels that nobody labelled.
        mark: Whether those are marked as unlabelled; else they are outside of every mask, as the hosts have it.
        floating: Whether the masks are float32 with NaN for a mark, for hosts that interpolate them, instead of int64.

    Returns:
        For each image ``labels``, int64 ``[G]`` rising, and ``masks`` ``[G, H, W]``; G may be 0.
    """
    found = []
    for sample in samples:
        labels = sample.gt_sem_seg.data  # [1, H, W]
        classes = labels.unique()
        classes = classes[classes != ignore_index].long()
        masks = (labels == classes[:, None, None]).to(torch.float32 if floating else torch.int64)
        if mark:
            masks = masks.masked_fill(labels == ignore_index, math.nan if floating else UNLABELLED)
        found.append(InstanceData(labels=classes, masks=masks))
    return found


def is_labelled(masks: Tensor) -> Tensor:
    """Where masks of any shape, integer or floating, say inside or outside: bool of the same shape."""
    return ~masks.isnan() if masks.is_floating_point() else masks != UNLABELLED


def set_aside(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Make unlabelled places perfect negatives, which no mask loss of the hosts feels.

    There the logit becomes one of probability 0 and the target 0. Cross-entropy and focal loss are then exactly 0, and
    numerator and denominator of a dice loss get nothing: each is what it would be over labelled places alone, and the
    gradient at the others is exactly zero.

    Args:
        logits: Of any shape.
        targets: Of the same shape, from :func:`mask_instances`.

    Returns:
        Logits and float targets in 0..1.
    """
    unknown = ~is_labelled(targets)
    return logits.masked_fill(unknown, _SURELY_OUTSIDE), targets.masked_fill(unknown, 0).to(logits.dtype)


def place_weights(targets: Tensor) -> Tensor:
    """Weights by which a mean over all places of a mask becomes the mean over its labelled ones.

    Args:
        targets: ``[G, P]``, marked.

    Returns:
        ``[G, P]`` float32: 0 at unlabelled places, elsewhere P over the number of labelled ones; all 1 without a mark.
    """
    known = is_labelled(targets).float()
    return known * (known.shape[1] / known.sum(1, keepdim=True).clamp(min=1))


def uncertain_points(
    logits: Tensor, targets: Tensor, *, num_points: int, oversample_ratio: float, importance_sample_ratio: float
) -> Tensor:
    """Points where a mask is least sure, labelled ones first, and some at random (PointRend, arXiv 1912.08193, 3.1).

    Without unlabelled pixels these are the host's own points, drawn with the same random numbers. With them, the ones
    that are picked for their doubt lie in labelled places as long as there are any: a model is in doubt where it is
    taught nothing, and would spend its points there.

    Args:
        logits: ``[G, h, w]``.
        targets: float ``[G, H, W]`` with NaN for a mark.
        num_points: P.
        oversample_ratio: Candidates drawn for a point, >= 1.
        importance_sample_ratio: Share of the points that are picked for their doubt, in 0..1.

    Returns:
        ``[G, P, 2]``, x and y in 0..1.
    """
    candidates = torch.rand(len(logits), int(num_points * oversample_ratio), 2, device=logits.device)
    doubt = -point_sample(logits[:, None], candidates)[:, 0].abs()
    known = is_labelled(point_sample(targets[:, None], candidates)[:, 0])
    picked = int(importance_sample_ratio * num_points)
    best = doubt.masked_fill(~known, -math.inf).topk(picked, dim=1).indices  # [G, picked]
    points = candidates.gather(1, best[..., None].expand(-1, -1, 2))
    if num_points > picked:
        rest = torch.rand(len(logits), num_points - picked, 2, device=logits.device)
        points = torch.cat([points, rest], dim=1)
    return points


class LabelledMatcher:
    """A host's assigner that compares masks at labelled places only.

    Where not one of the compared places is labelled, masks count as empty, and the scores decide.

    Args:
        assigner: mmseg's or mmdet's Hungarian assigner.
    """

    def __init__(self, assigner: Any) -> None:
        self.assigner = assigner

    def assign(self, pred_instances: InstanceData, gt_instances: InstanceData, **kwargs: Any) -> Any:
        """What the assigner gives for the labelled places.

        Args:
            pred_instances: ``scores`` ``[Q, K]`` and ``masks`` ``[Q, *]``.
            gt_instances: ``labels`` ``[G]`` and ``masks`` ``[G, *]``, marked at the same places in each.
            **kwargs: Handed on.
        """
        if not len(gt_instances):
            return self.assigner.assign(pred_instances=pred_instances, gt_instances=gt_instances, **kwargs)
        targets = gt_instances.masks.flatten(1)
        known = is_labelled(targets[0])
        if known.any():
            masks, targets = pred_instances.masks.flatten(1)[:, known], targets[:, known]
        else:
            masks, targets = pred_instances.masks.flatten(1), torch.zeros_like(targets)
        return self.assigner.assign(
            pred_instances=InstanceData(scores=pred_instances.scores, masks=masks),
            gt_instances=InstanceData(labels=gt_instances.labels, masks=targets),
            **kwargs,
        )
