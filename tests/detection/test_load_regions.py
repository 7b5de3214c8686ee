"""Cached regions in a sample: where the image's content has gone, with the embeddings of those very regions."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import RandomCrop, RandomFlip, Resize, Rotate
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.dataset import Compose, pseudo_collate

from subpt_dense.datasets.region_writer import write_regions
from subpt_dense.detection import PackRegionInputs
from subpt_dense.registry import TRANSFORMS

H, W, D = 60, 80, 6
BOXES = np.array([[4, 6, 30, 40], [50, 10, 79, 21], [0, 0, 80, 60], [33.5, 41.25, 70, 59]], dtype=np.float32)


def embeddings(n: int) -> np.ndarray:
    """Unit vectors that say which region they are of: the angle in the first two numbers."""
    made = np.zeros((n, D), dtype=np.float16)
    made[:, 0], made[:, 1] = np.cos(np.arange(n) / n), np.sin(np.arange(n) / n)
    return made


def number_of(found: torch.Tensor, n: int = len(BOXES)) -> list[int]:
    angles = torch.atan2(found[:, 1].float(), found[:, 0].float())
    return (angles * n).round().int().tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    none = np.zeros((0, 4), dtype=np.float32)
    regions = {
        7: (BOXES, np.ones(len(BOXES)), embeddings(len(BOXES))),
        8: (none, np.zeros(0), embeddings(1)[:0]),
    }
    facts = {"backbone": "tiny", "weights": "some/where/tiny.pt", "weights_hash": "0" * 64}
    return write_regions(tmp_path_factory.mktemp("regions") / "cache", regions, **facts)


def sample(image_id: int = 7) -> dict[str, Any]:
    """What stands before the transforms; the ground truth has the same boxes, and mmdet moves those itself."""
    image = np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8)
    return {
        "img": image, "img_id": image_id, "img_shape": (H, W), "ori_shape": (H, W), "img_path": "a.png",
        "gt_bboxes": HorizontalBoxes(BOXES.copy()), "gt_bboxes_labels": np.arange(len(BOXES)),
    }  # fmt: skip


MOVES = {
    "none": [],
    "resize": [Resize(scale=(121, 87), keep_ratio=False)],
    "keep ratio": [Resize(scale=(200, 90), keep_ratio=True)],
    "horizontal": [RandomFlip(prob=1.0)],
    "vertical": [RandomFlip(prob=1.0, direction="vertical")],
    "diagonal": [RandomFlip(prob=1.0, direction="diagonal")],
    "never flipped": [Resize(scale=(121, 87)), RandomFlip(prob=0.0)],
    "resize, flip": [Resize(scale=(121, 87)), RandomFlip(prob=1.0)],
    "flip, resize": [RandomFlip(prob=1.0), Resize(scale=(121, 87)), RandomFlip(prob=1.0, direction="vertical")],
    "rotate": [Resize(scale=(160, 120)), Rotate(prob=1.0, level=4, reversal_prob=0.0)],
}


@pytest.mark.parametrize("name", MOVES)
def test_regions_go_where_the_ground_truth_goes(name: str, folder: Path) -> None:
    pack = PackRegionInputs(folder=folder, min_visible=0.0)
    found = Compose([*MOVES[name], pack])(sample())["data_samples"]
    expected = found.gt_instances.bboxes.tensor
    assert (name == "none") == torch.equal(expected, torch.from_numpy(BOXES))
    kept = number_of(found.regions.embeddings)
    torch.testing.assert_close(found.regions.bboxes, expected[kept], rtol=1e-5, atol=1e-3)
    assert kept == [0, 1, 2, 3]
    assert found.regions.bboxes.dtype == torch.float32 and found.regions.embeddings.dtype == torch.float16


def test_a_crop_keeps_what_can_still_be_seen(folder: Path) -> None:
    np.random.seed(0)
    crop = RandomCrop(crop_size=(40, 40), allow_negative_crop=True)
    pack = PackRegionInputs(folder=folder, meta_keys=("homography_matrix",))
    areas, numbers = np.prod(BOXES[:, 2:] - BOXES[:, :2], axis=1), set()
    for _ in range(20):
        found = Compose([RandomFlip(prob=1.0), crop, pack])(sample())["data_samples"]
        (_, _, x), (_, _, y), _ = found.metainfo["homography_matrix"]  # of a point at 0, 0; x runs backwards
        moved = np.stack([x - BOXES[:, 2], BOXES[:, 1] + y, x - BOXES[:, 0], BOXES[:, 3] + y], axis=1)
        inside = np.clip(moved, 0, 40)
        seen = np.prod(inside[:, 2:] - inside[:, :2], axis=1) >= 0.5 * areas
        assert number_of(found.regions.embeddings) == np.flatnonzero(seen).tolist()
        np.testing.assert_allclose(found.regions.bboxes, inside[seen], atol=1e-3)
        numbers.add(int(seen.sum()))
    assert len(numbers) > 1  # the crops differ in what they show


def test_a_draw_of_num(folder: Path) -> None:
    np.random.seed(0)
    pack = PackRegionInputs(folder=folder, num=2)
    draws = []
    for _ in range(60):
        regions = pack(sample())["data_samples"].regions
        draws.append(tuple(number_of(regions.embeddings)))
        assert torch.equal(regions.bboxes, torch.from_numpy(BOXES)[list(draws[-1])])  # boxes keep their embeddings
    assert {*draws} == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    assert len(PackRegionInputs(folder=folder, num=9)(sample())["data_samples"].regions) == 4


def test_the_draw_follows_the_seed(folder: Path) -> None:
    pack, draws = PackRegionInputs(folder=folder, num=2), []
    for _ in range(2):
        np.random.seed(5)
        draws.append([number_of(pack(sample())["data_samples"].regions.embeddings) for _ in range(8)])
    assert draws[0] == draws[1]


def test_an_image_without_regions(folder: Path) -> None:
    regions = Compose([*MOVES["resize, flip"], PackRegionInputs(folder=folder, num=2)])(sample(8))[
        "data_samples"
    ].regions
    assert regions.bboxes.shape == (0, 4) and regions.embeddings.shape == (0, D)
    assert regions.embeddings.dtype == torch.float16


def test_the_rest_is_packed_as_by_the_host(folder: Path) -> None:
    packed = PackRegionInputs(folder=folder, meta_keys=("img_id", "img_path"))(sample())
    assert packed["inputs"].shape == (3, H, W)
    assert packed["data_samples"].metainfo == {"img_id": 7, "img_path": "a.png"}
    assert packed["data_samples"].gt_instances.labels.tolist() == [0, 1, 2, 3]


def test_regions_reach_the_model_and_name_their_clip(folder: Path) -> None:
    batch = pseudo_collate([PackRegionInputs(folder=folder)(sample(i)) for i in (7, 8)])
    samples = DetDataPreprocessor(pad_size_divisor=32)(batch, training=True)["data_samples"]
    assert [len(each.regions) for each in samples] == [4, 0]
    assert samples[1].regions.metainfo == {"backbone": "tiny", "weights": "tiny.pt"}


def test_a_copy_for_a_loader_worker(folder: Path) -> None:
    pack = TRANSFORMS.build({"type": "subpt_dense.PackRegionInputs", "folder": str(folder), "num": 3})
    pack(sample())
    twin = pickle.loads(pickle.dumps(pack))
    assert repr(twin) == repr(pack) and "num=3" in repr(pack)
    assert len(twin(sample())["data_samples"].regions) == 3


def test_an_image_that_the_cache_does_not_know(folder: Path) -> None:
    with pytest.raises(LookupError, match="does not know image 9"):
        PackRegionInputs(folder=folder)(sample(9))


def test_a_change_of_size_that_nobody_recorded(folder: Path) -> None:
    changed = sample() | {"img": np.zeros((30, 40, 3), dtype=np.uint8), "img_shape": (30, 40)}
    with pytest.raises(ValueError, match=r"must record `homography_matrix`.*\[30, 40\] pixels that was \[60, 80\]"):
        PackRegionInputs(folder=folder)(changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num": 0}, "`num` of PackRegionInputs must be positive, or None for all regions. Got 0"),
        ({"min_visible": 1.5}, r"`min_visible` of PackRegionInputs must be in \[0, 1\]. Got 1.5"),
    ],
)
def test_arguments_that_are_refused(change: dict, message: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=message):
        PackRegionInputs(folder=folder, **change)


def test_a_missing_cache_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.* does not exist.*tools/extract_regions\.py"):
        PackRegionInputs(folder=tmp_path / "none")


def test_a_box_that_sticks_out_counts_as_what_is_inside(tmp_path: Path) -> None:
    boxes = np.array([[-60, 10, 20, 30], [70, 50, 170, 90]], dtype=np.float32)  # a quarter and 2.5 % are inside
    facts = {"backbone": "tiny", "weights": "tiny.pt", "weights_hash": "0" * 64}
    write_regions(tmp_path / "cache", {7: (boxes, np.ones(2), embeddings(2))}, **facts)
    pack = PackRegionInputs(folder=tmp_path / "cache", min_visible=1.0)
    found = Compose([RandomFlip(prob=1.0), pack])(sample())["data_samples"].regions
    assert found.bboxes.tolist() == [[60, 10, 80, 30], [0, 50, 10, 60]]
