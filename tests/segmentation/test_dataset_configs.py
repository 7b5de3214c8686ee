"""The data-set configs, read as they are, on tiny copies of the published layouts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config

import subpt_dense.segmentation  # noqa: F401  (registers its types)
from subpt_dense.datasets import get_split, require_files
from subpt_dense.datasets.check_semantic import SEMANTIC_SETS
from subpt_dense.registry import DATASETS, METRICS
from tests.datasets.semantic_files import write_set
from tests.segmentation.label_files import write_map

BASES = Path(__file__).parents[2] / "configs" / "_base_" / "datasets"
#: config: (set as check_data.py calls it, command or set named by the help, names that are tested)
TRAINED = {
    "zss_voc": ("voc_zss", "prepare_data.py voc-zss", 20),
    "zss_cocostuff": ("coco_stuff_zss", "prepare_data.py cocostuff-zss", 171),
    "zss_context": ("context_zss", "prepare_data.py context-zss", 59),
    "zss_context60": ("context60_zss", "prepare_data.py context-zss", 60),
}
TESTED = {
    "zss_voc20": ("voc20", "check_data.py voc20", 20),
    "zss_pc59": ("pc59", "prepare_data.py context-zss", 59),
    "zss_pc459": ("pc459", "prepare_data.py context-zss", 459),
    "zss_ade150": ("ade150", "check_data.py ade150", 150),
    "zss_ade847": ("ade847", "check_data.py ade847", 847),
}
ALL = TRAINED | TESTED


def on_disk(cfg: Config, root: Path, stage: str) -> Any:
    """The stage's data set, its folder below ``root`` in place of ``data``."""
    dataset = cfg[f"{stage}_dataloader"].dataset
    dataset.data_root = str(root / dataset.data_root.removeprefix("data/"))
    return dataset


@pytest.mark.parametrize("name", ALL)
class TestEveryConfig:
    def test_reads_the_layout_that_check_data_checks(self, name: str, tmp_path: Path) -> None:
        cfg = Config.fromfile(BASES / f"{name}.py")
        key, _, count = ALL[name]
        write_set(tmp_path, key)
        data = DATASETS.build(on_disk(cfg, tmp_path, "test"))
        assert len(data) == 2 and len(data.metainfo["classes"]) == count and data.test_mode
        labels = data[0]["data_samples"].gt_sem_seg.data
        found = {data.metainfo["classes"][label] for label in labels.unique().tolist() if label != data.ignore_index}
        split = get_split(data.metainfo["split"])
        assert found == {name for number, name in zip(split.ids, split.all, strict=True) if number in (0, count - 1)}
        assert (labels == data.ignore_index).sum() == 1
        metric = METRICS.build(cfg.test_evaluator)
        assert metric.ignore_index == data.ignore_index
        assert (f"{len(split.base)}/{len(split.novel)}" if name in TRAINED else str(count)) in metric.protocol
        sample = {"gt_sem_seg": {"data": labels}, "pred_sem_seg": {"data": labels.clamp(max=count - 1)}}
        metric.dataset_meta = data.metainfo
        metric.process({}, [sample])
        assert metric.evaluate(1)["mIoU"] > 99

    def test_names_what_is_missing_and_the_command(self, name: str, tmp_path: Path) -> None:
        cfg = Config.fromfile(BASES / f"{name}.py")
        on_disk(cfg, tmp_path, "test")
        with pytest.raises(FileNotFoundError) as caught:
            require_files(cfg, ("test",))
        text = str(caught.value)
        for folder in cfg.test_dataloader.dataset.data_prefix.values():
            assert f"{tmp_path}/" in text and folder in text
        assert ALL[name][1] in text and "data/README.md" in text

    def test_trains_on_seen_classes_or_not_at_all(self, name: str, tmp_path: Path) -> None:
        cfg = Config.fromfile(BASES / f"{name}.py")
        if name in TESTED:
            assert cfg.train_dataloader is None
            return
        write_set(tmp_path, TRAINED[name][0])
        torch.manual_seed(0)
        data = DATASETS.build(on_disk(cfg, tmp_path, "train"))
        split = get_split(data.metainfo["split"])
        item = data[0]
        assert data.metainfo["classes"] == split.base and item["inputs"].dtype == torch.uint8
        labels = item["data_samples"].gt_sem_seg.data
        assert (
            labels.shape[1:] == item["inputs"].shape[1:] and 256 <= labels.shape[-1] <= 512
        )  # smaller ones are padded
        assert set(labels.unique().tolist()) <= {0, split.base.index(split.all[0]), len(split.base) - 1, 255}
        assert cfg.names.generic.exclude == cfg.names.heldout.split == data.metainfo["split"]


def test_voc_is_scored_on_its_own_maps_whatever_lies_in_mmsegs_folder(tmp_path: Path) -> None:
    root = write_set(tmp_path, "voc_zss")
    own = np.array([[0, 16], [255, 20]], np.uint8)  # background, an unseen class, a border, the last class
    write_map(root / "SegmentationClass" / "val_0.png", own, "P")
    write_map(root / "SegmentationClassAug" / "val_0.png", np.full((2, 2), 7))
    data = DATASETS.build(on_disk(Config.fromfile(BASES / "zss_voc.py"), tmp_path, "test"))
    labels = data[0]["data_samples"].gt_sem_seg.data[0]
    plant, last = (data.metainfo["classes"].index(name) for name in ("potted plant", "tv monitor"))
    assert labels.tolist() == [[255, plant], [255, last]]


def test_the_toy_config_ignores_the_grounds_and_needs_its_names(tmp_path: Path) -> None:
    cfg = Config.fromfile(BASES / "zss_toy.py")
    for stage in ("train", "test"):
        dataset = cfg[f"{stage}_dataloader"].dataset
        dataset.data_root = str(tmp_path)
        dataset.split, dataset.labels = str(tmp_path / "split.json"), str(tmp_path / "semantic_classes.txt")
    with pytest.raises(FileNotFoundError) as caught:
        require_files(cfg)
    for part in ("semantic/train", "semantic/val", "split.json", "semantic_classes.txt", "subpt_dense.toyworld.build"):
        assert part in str(caught.value)


def test_every_set_that_is_checked_has_a_config() -> None:
    assert {key for key, *_ in ALL.values()} == {*SEMANTIC_SETS}
    assert {path.stem for path in BASES.glob("zss_*.py")} >= {*ALL}
