"""The operators against references written out here, called the way mmcv calls them."""

import math

import pytest
import torch
from torch import Tensor

from subpt_dense.compat import MissingOperatorError

ops = pytest.importorskip("mmcv.ops")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def random_boxes(count: int, seed: int, size: float = 40.0) -> tuple[Tensor, Tensor]:
    """Overlapping float32 boxes ``[n, 4]`` and distinct scores ``[n]``."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * size
    extent = torch.rand(count, 2, generator=generator) * size / 2 + 1
    scores = torch.randperm(count, generator=generator).float().add(1) / (count + 1)
    return torch.cat([corner, corner + extent], dim=1), scores


def overlap(a: list[float], b: list[float], offset: int) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area_a, area_b = ((c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b))
    union = area_a + area_b - width * height
    return width * height / union if union else 0.0


def reference_nms(boxes: Tensor, scores: Tensor, threshold: float, offset: int) -> list[int]:
    rows, kept = boxes.tolist(), []
    for i in scores.argsort(descending=True).tolist():
        if all(overlap(rows[i], rows[j], offset) <= threshold for j in kept):
            kept.append(i)
    return kept


def reference_soft_nms(
    boxes: Tensor, scores: Tensor, *, method: str, threshold: float, sigma: float, least: float, offset: int
) -> tuple[list[int], list[float]]:
    rows, live, order, final = boxes.tolist(), dict(enumerate(scores.tolist())), [], []
    while live:
        best = max(live, key=lambda i: live[i])
        order.append(best)
        final.append(live.pop(best))
        for i in list(live):
            iou = overlap(rows[best], rows[i], offset)
            if method == "gaussian":
                live[i] *= math.exp(-iou * iou / sigma)
            elif iou >= threshold:
                live[i] *= 1 - iou if method == "linear" else 0.0
            if live[i] < least:
                del live[i]
    return order, final


def reference_roi_align(
    image: Tensor, rois: Tensor, size: tuple[int, int], scale: float, sampling: int, aligned: bool
) -> Tensor:
    """Mask R-CNN's RoIAlign, one sample after another: ``[B, C, H, W]``, ``[N, 5]`` -> ``[N, C, h, w]``."""
    channels, height, width = image.shape[1:]

    def sample(batch: int, y: float, x: float) -> Tensor:
        if not (-1 <= y <= height and -1 <= x <= width):
            return image.new_zeros(channels)
        y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        dy, dx = y - top, x - left
        row_top = image[batch, :, top, left] * (1 - dx) + image[batch, :, top, right] * dx
        row_bottom = image[batch, :, bottom, left] * (1 - dx) + image[batch, :, bottom, right] * dx
        return row_top * (1 - dy) + row_bottom * dy

    shift = 0.5 if aligned else 0.0
    pooled = []
    for index, *corners in rois.tolist():
        x1, y1, x2, y2 = (c * scale - shift for c in corners)
        roi_w, roi_h = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1.0), max(y2 - y1, 1.0))
        bin_h, bin_w = roi_h / size[0], roi_w / size[1]
        grid_h, grid_w = (sampling or math.ceil(bin_h)), (sampling or math.ceil(bin_w))
        for i in range(size[0]):
            for j in range(size[1]):
                samples = [
                    sample(int(index), y1 + (i + (a + 0.5) / grid_h) * bin_h, x1 + (j + (b + 0.5) / grid_w) * bin_w)
                    for a in range(grid_h)
                    for b in range(grid_w)
                ]
                pooled.append(torch.stack(samples).mean(0))
    return torch.stack(pooled).view(len(rois), *size, channels).permute(0, 3, 1, 2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7])
def test_nms_matches_the_reference(threshold: float, offset: int, device: str) -> None:
    for seed in range(5):
        boxes, scores = random_boxes(60, seed)
        dets, kept = ops.nms(boxes.to(device), scores.to(device), threshold, offset=offset)
        expected = reference_nms(boxes, scores, threshold, offset)
        assert kept.tolist() == expected
        torch.testing.assert_close(dets.cpu(), torch.cat([boxes, scores[:, None]], 1)[expected])


def test_nms_offset_changes_the_answer() -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 2.0]])  # touch; overlap by a pixel row when inclusive
    scores = torch.tensor([0.9, 0.8])
    assert ops.nms(boxes, scores, 0.3, offset=0)[1].tolist() == [0, 1]
    assert ops.nms(boxes, scores, 0.3, offset=1)[1].tolist() == [0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_nms_takes_other_dtypes(dtype: torch.dtype) -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]], dtype=dtype)
    dets, kept = ops.nms(boxes, torch.tensor([0.5, 0.75, 0.25]), 0.5)
    assert kept.tolist() == [1, 2]


def test_batched_nms_keeps_classes_apart() -> None:
    boxes, scores = random_boxes(50, seed=3)
    labels = torch.arange(50) % 3
    _, kept = ops.batched_nms(boxes, scores, labels, {"type": "nms", "iou_threshold": 0.4})
    expected = set()
    for label in range(3):
        members = torch.nonzero(labels == label)[:, 0]
        expected |= {int(members[i]) for i in reference_nms(boxes[members], scores[members], 0.4, 0)}
    assert set(kept.tolist()) == expected


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_matches_the_reference(method: str, offset: int, device: str) -> None:
    for seed in range(5):
        boxes, scores = random_boxes(40, seed)
        dets, kept = ops.soft_nms(
            boxes.to(device), scores.to(device), 0.3, sigma=0.5, min_score=0.05, method=method, offset=offset
        )
        order, final = reference_soft_nms(
            boxes, scores, method=method, threshold=0.3, sigma=0.5, least=0.05, offset=offset
        )
        assert kept.tolist() == order
        torch.testing.assert_close(dets[:, :4].cpu(), boxes[order])
        torch.testing.assert_close(dets[:, 4].cpu(), torch.tensor(final), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_keeps_boxes_without_area(method: str) -> None:
    boxes = torch.tensor([[3.0, 1.0, 3.0, 1.0]] * 3)
    dets, kept = ops.soft_nms(boxes, torch.tensor([0.5, 0.9, 0.7]), 0.3, method=method)
    assert kept.tolist() == [1, 2, 0]
    torch.testing.assert_close(dets[:, 4], torch.tensor([0.9, 0.7, 0.5]))


def test_soft_nms_leaves_its_input_alone() -> None:
    boxes, scores = random_boxes(20, seed=0)
    before = boxes.clone(), scores.clone()
    ops.soft_nms(boxes, scores, method="linear")
    torch.testing.assert_close((boxes, scores), before, atol=0, rtol=0)


def test_soft_nms_refuses_an_unknown_method() -> None:
    from subpt_dense.compat.ops import softnms

    boxes, scores = random_boxes(3, seed=0)
    with pytest.raises(ValueError, match=r"`method` of soft-NMS must be 0 .naive., 1 .* Got 3\."):
        softnms(boxes, scores, boxes.new_empty(3, 5), 0.3, 0.5, 0.0, method=3)


ROIS = torch.tensor(
    [
        [0, 1.3, 2.1, 17.9, 21.4],
        [1, 0.0, 0.0, 31.0, 23.0],
        [1, -6.0, -5.0, 9.0, 40.0],  # reaches outside on three sides
        [0, 12.2, 12.4, 12.6, 12.5],  # smaller than a pixel
    ],
    dtype=torch.float64,
)


def feature_map(seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize(("size", "scale"), [((2, 3), 0.5), ((3, 2), 1.0)])
def test_roi_align_matches_the_reference(
    size: tuple[int, int], scale: float, sampling: int, aligned: bool, device: str
) -> None:
    image = feature_map().requires_grad_()
    ours = feature_map().to(device).requires_grad_()
    expected = reference_roi_align(image, ROIS, size, scale, sampling, aligned)
    pooled = ops.roi_align(ours, ROIS.to(device), size, scale, sampling, "avg", aligned)
    torch.testing.assert_close(pooled.cpu(), expected, atol=1e-9, rtol=1e-6)

    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (expected * weights).sum().backward()
    (pooled * weights.to(device)).sum().backward()
    torch.testing.assert_close(ours.grad.cpu(), image.grad, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_roi_align_in_half_types_is_float32_rounded_once(dtype: torch.dtype) -> None:
    image = feature_map().to(dtype).requires_grad_()
    exact = image.detach().float().requires_grad_()
    rois = ROIS.float()
    pooled = ops.roi_align(image, rois, (2, 2), 0.5, 2, "avg", True)
    expected = ops.roi_align(exact, rois, (2, 2), 0.5, 2, "avg", True)
    pooled.backward(torch.ones_like(pooled))
    expected.backward(torch.ones_like(expected))
    assert pooled.dtype == image.grad.dtype == dtype
    torch.testing.assert_close(pooled, expected.to(dtype), atol=0, rtol=0)
    torch.testing.assert_close(image.grad, exact.grad.to(dtype), atol=0, rtol=0)


def test_empty_input() -> None:
    nothing = torch.zeros(0, 4)
    dets, kept = ops.nms(nothing, torch.zeros(0), 0.5)
    assert dets.shape == (0, 5) and kept.shape == (0,) and kept.dtype == torch.long
    dets, kept = ops.soft_nms(nothing, torch.zeros(0))
    assert dets.shape == (0, 5) and kept.shape == (0,) and kept.dtype == torch.long

    image = feature_map().requires_grad_()
    pooled = ops.RoIAlign((7, 7), 0.25, 0)(image, torch.zeros(0, 5, dtype=torch.float64))
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert image.grad.abs().sum() == 0


def test_max_pooling_is_refused_by_name() -> None:
    with pytest.raises(MissingOperatorError, match=r"`pool_mode` of RoIAlign must be 'avg' .* Got 'max'\."):
        ops.roi_align(feature_map(), ROIS, (2, 2), 1.0, 2, "max", True)
