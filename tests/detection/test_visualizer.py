"""Colours and sizes of drawn pictures, pixel by pixel."""

import itertools

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from subpt_dense.detection.visualizer import BASE_COLOUR, NOVEL_COLOUR, _enlarge
from subpt_dense.registry import VISUALIZERS

META = {"classes": ("ant", "bee", "cow"), "base_classes": ("ant", "cow"), "novel_classes": ("bee",)}
_COUNT = itertools.count()


@pytest.fixture
def visualizer():
    made = VISUALIZERS.build({"type": "subpt_dense.GroupVisualizer", "name": f"test{next(_COUNT)}", "min_side": 200})
    made.dataset_meta = META
    return made


def instances(boxes, labels, scores=None, **more):
    kwargs = {"bboxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels), **more}
    return InstanceData(**kwargs, **({} if scores is None else {"scores": torch.tensor(scores)}))


def draw(visualizer, tmp_path, shape=(100, 100), **parts) -> np.ndarray:
    """The picture as written: RGB, on grey."""
    sample = DetDataSample()
    for name, value in parts.items():
        setattr(sample, name, value)
    out = tmp_path / "out.png"
    visualizer.add_datasample("picture", np.full((*shape, 3), 128, np.uint8), sample, out_file=str(out))
    return cv2.imread(str(out))[:, :, ::-1]


def near(picture, colour, tolerance=40) -> np.ndarray:
    """Where a picture has a colour."""
    return (np.abs(picture.astype(int) - colour).max(-1) < tolerance).nonzero()


def test_base_and_novel_have_their_colours(visualizer, tmp_path):
    assert visualizer.dataset_meta["palette"] == [BASE_COLOUR, NOVEL_COLOUR, BASE_COLOUR]
    found = instances([[10, 30, 40, 60], [60, 30, 90, 60]], [0, 1], [0.9, 0.8])
    picture = draw(visualizer, tmp_path, pred_instances=found)
    assert picture.shape == (200, 200 * 2, 3)  # truth left, detections right
    for colour, (left, right) in ((BASE_COLOUR, (20, 80)), (NOVEL_COLOUR, (120, 180))):
        rows, columns = near(picture, colour)
        assert len(rows) > 100
        # On the right half, within the enlarged box and its line.
        assert 200 + left - 3 <= columns.min() <= 200 + left + 3 and 200 + right - 3 <= columns.max() <= 200 + right + 3
        assert rows.max() == pytest.approx(120, abs=3)


def test_truth_is_drawn_on_the_left(visualizer, tmp_path):
    truth = instances([[20, 20, 70, 80]], [1])
    picture = draw(visualizer, tmp_path, gt_instances=truth, pred_instances=instances([[20, 20, 70, 80]], [0], [0.9]))
    assert near(picture, NOVEL_COLOUR)[1].max() < 200 < near(picture, BASE_COLOUR)[1].min()


def test_unsure_detections_are_left_out(visualizer, tmp_path):
    picture = draw(visualizer, tmp_path, pred_instances=instances([[20, 20, 70, 80]], [0], [0.1]))
    assert (picture == 128).all()


def test_large_pictures_keep_their_size(visualizer, tmp_path):
    truth = instances([[20, 20, 170, 180]], [0])
    picture = draw(visualizer, tmp_path, shape=(240, 300), gt_instances=truth)
    assert picture.shape == (240, 600, 3)
    rows, columns = near(picture, BASE_COLOUR)
    assert (columns.min(), columns.max(), rows.max()) == pytest.approx((20, 170, 180), abs=3)


def test_the_sample_is_left_as_it_was(visualizer, tmp_path):
    found = instances([[10, 30, 40, 60]], [0], [0.9])
    draw(visualizer, tmp_path, pred_instances=found)
    assert found.bboxes.tolist() == [[10, 30, 40, 60]]


def test_no_sample_and_no_boxes(visualizer, tmp_path):
    draw(visualizer, tmp_path, pred_instances=instances(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, np.float32)))
    visualizer.add_datasample("picture", np.zeros((50, 60, 3), np.uint8), None, out_file=str(tmp_path / "none.png"))
    assert cv2.imread(str(tmp_path / "none.png")).shape == (200, 240, 3)


@pytest.mark.parametrize("kind", ["tensor", "bitmap"])
@pytest.mark.parametrize("count", [0, 2])
def test_masks_are_enlarged_with_their_boxes(kind, count):
    dense = np.zeros((count, 10, 20), np.uint8)
    dense[:, 2:4, 5:10] = 1
    masks = torch.from_numpy(dense).bool() if kind == "tensor" else BitmapMasks(dense, 10, 20)
    boxes = torch.tensor([[5.0, 2.0, 10.0, 4.0]]).repeat(count, 1)
    sample = DetDataSample(pred_instances=InstanceData(bboxes=boxes, masks=masks))
    enlarged = _enlarge(sample, 3.0, (30, 60)).pred_instances
    assert torch.equal(enlarged.bboxes, 3 * boxes)
    assert enlarged.masks.shape == (count, 30, 60) and enlarged.masks.dtype == torch.bool
    assert enlarged.masks[:, 6:12, 15:30].all() and enlarged.masks.sum() == count * 90


@pytest.mark.parametrize("meta", [None, {}, {"classes": ("ant",), "palette": [(1, 2, 3)]}], ids=str)
def test_a_data_set_without_groups_keeps_its_palette(visualizer, meta):
    visualizer.dataset_meta = meta
    assert visualizer.dataset_meta == (meta or {})


def test_the_data_sets_own_metainfo_is_left_alone(visualizer):
    meta = {**META, "palette": "random"}
    visualizer.dataset_meta = meta
    assert meta["palette"] == "random" and visualizer.dataset_meta["palette"][1] == NOVEL_COLOUR
