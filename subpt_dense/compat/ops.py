"""The mmcv operators of dense prediction, with mmcv's signatures, on torchvision's kernels (CPU and CUDA).

N boxes or regions, B images, C channels, H×W pixels. Boxes are ``[N, 4]`` as (x1, y1, x2, y2); regions of interest are
``[N, 5]`` with the image index first. Half types are computed in float32. Signatures follow mmcv 2.1.0, which calls
these with keyword arguments: their names must not change.
"""

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor

from subpt_dense.compat.mmcv_ext import MissingOperatorError

_NAIVE, _LINEAR, _GAUSSIAN = 0, 1, 2
_AVERAGE = 1


def _working_dtype(*tensors: Tensor) -> torch.dtype:
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _as_exclusive(boxes: Tensor, offset: int) -> Tensor:
    """mmcv's ``offset=1`` counts pixels inclusively (w = x2 - x1 + 1): the same as moving (x2, y2) by one."""
    return boxes + boxes.new_tensor([0, 0, offset, offset]) if offset else boxes


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices ``[n]`` int64 of the kept boxes, by falling score.

    A box goes when its IoU with a kept one is above the threshold.
    """
    dtype = _working_dtype(bboxes, scores)
    return torchvision.ops.nms(_as_exclusive(bboxes.to(dtype), offset), scores.to(dtype), float(iou_threshold))


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int = 0,
) -> Tensor:
    """Soft-NMS (Bodla et al. 2017), method 0 naive, 1 linear, 2 gaussian.

    Fills the first n rows of ``dets`` ``[N, 5]`` (box, decayed score) in the order of choice and returns their indices
    ``[n]`` int64. Two boxes without area count as not overlapping.
    """
    dtype = _working_dtype(boxes, scores)
    extents = _as_exclusive(boxes.to(dtype), offset)
    decayed = scores.to(dtype).clone()
    left = torch.arange(boxes.shape[0], device=boxes.device)  # [n], candidates
    chosen: list[int] = []
    while left.numel():
        place = int(torch.argmax(decayed[left]))
        best = int(left[place])
        dets[len(chosen), :4] = boxes[best]
        dets[len(chosen), 4] = decayed[best]
        chosen.append(best)
        left = torch.cat([left[:place], left[place + 1 :]])
        iou = torchvision.ops.box_iou(extents[best : best + 1], extents[left])[0].nan_to_num(0.0)  # [n]
        decayed[left] *= _decay(iou, iou_threshold, sigma, method)
        left = left[decayed[left] >= min_score]
    return torch.tensor(chosen, dtype=torch.long)


def _decay(iou: Tensor, iou_threshold: float, sigma: float, method: int) -> Tensor:
    """Factor ``[n]`` in [0, 1] on the scores of boxes that overlap the chosen one by ``iou``."""
    if method == _GAUSSIAN:
        return torch.exp(-iou.square() / sigma)
    if method not in (_NAIVE, _LINEAR):
        raise ValueError(f"`method` of soft-NMS must be 0 (naive), 1 (linear) or 2 (gaussian). Got {method}.")
    factor = torch.zeros_like(iou) if method == _NAIVE else 1 - iou
    return torch.where(iou >= iou_threshold, factor, torch.ones_like(iou))


def _check_pool_mode(pool_mode: int) -> None:
    if pool_mode != _AVERAGE:
        raise MissingOperatorError("`pool_mode` of RoIAlign must be 'avg' without a compiled mmcv. Got 'max'.")


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average RoIAlign of ``input`` ``[B, C, H, W]`` over ``rois`` ``[N, 5]``, into ``output`` ``[N, C, h, w]``."""
    _check_pool_mode(pool_mode)
    dtype = _working_dtype(input)
    size = (int(aligned_height), int(aligned_width))
    pooled = torchvision.ops.roi_align(
        input.to(dtype), rois.to(dtype), size, float(spatial_scale), int(sampling_ratio), bool(aligned)
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of :func:`roi_align_forward`: ``grad_output`` ``[N, C, h, w]`` into ``grad_input`` ``[B, C, H, W]``."""
    _check_pool_mode(pool_mode)
    dtype = _working_dtype(grad_output)
    gradient = torch.ops.torchvision._roi_align_backward(
        grad_output.to(dtype),
        rois.to(dtype),
        float(spatial_scale),
        int(aligned_height),
        int(aligned_width),
        *grad_input.shape,
        int(sampling_ratio),
        bool(aligned),
    )
    grad_input.copy_(gradient)


OPERATORS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (nms, softnms, roi_align_forward, roi_align_backward)
}
