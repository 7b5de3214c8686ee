"""The data-set configs of the 11 sets, on small sets in the real layouts."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

import subpt_dense.classification  # noqa: F401  (registers)
from subpt_dense.datasets import IMAGE_SETS, require_files, resolve_names
from subpt_dense.registry import DATASETS
from subpt_dense.text import get_templates
from tests.datasets.image_files import IMAGENET_NAMES, write_set

FOLDER = Path(__file__).parents[2] / "configs" / "_base_" / "datasets"
ELEVEN = list(IMAGE_SETS)[:11]


def moved(node: Any, root: Path) -> None:
    """Every `data_root` in a config, set."""
    if isinstance(node, dict):
        if "data_root" in node:
            node["data_root"] = str(root)
        for value in node.values():
            moved(value, root)
    elif isinstance(node, list):
        for value in node:
            moved(value, root)


@pytest.mark.parametrize("key", ELEVEN)
def test_a_config_reads_its_set(tmp_path: Path, key: str) -> None:
    cfg = Config.fromfile(FOLDER / f"cls_{key}.py")
    with pytest.raises(FileNotFoundError, match=IMAGE_SETS[key].names_file):
        moved(cfg._cfg_dict, tmp_path)
        require_files(cfg)
    write_set(tmp_path, key)
    require_files(cfg)
    cfg.train_dataloader.dataset.update(draw_dir=str(tmp_path / "draws"))
    train = DATASETS.build(cfg.train_dataloader.dataset)
    test = DATASETS.build(cfg.test_dataloader.dataset.dataset)
    base, novel = train.metainfo["base_classes"], train.metainfo["novel_classes"]
    assert train.metainfo["classes"] == base and len(train) == 4 * len(base)
    assert test.metainfo["classes"] == base + novel and test.metainfo["part"] == "test"
    assert cfg.val_dataloader == cfg.test_dataloader and cfg.val_evaluator == cfg.test_evaluator
    assert cfg.val_evaluator.protocol == f"{key} base-to-novel"
    assert resolve_names(cfg.names.heldout) == novel
    if key == "imagenet":
        assert "generic" not in cfg.names
    else:
        assert "ant" not in resolve_names(cfg.names.generic)


@pytest.mark.parametrize("key", ELEVEN)
def test_a_config_says_what_the_table_says(key: str) -> None:
    cfg = Config.fromfile(FOLDER / f"cls_{key}.py")
    info = IMAGE_SETS[key]
    assert get_templates(cfg.templates) == (info.template,)
    base = (info.classes + 1) // 2
    assert f"{info.title}: {base} base and {info.classes - base} novel" in (FOLDER / f"cls_{key}.py").read_text()
    for dataset in (cfg.train_dataloader.dataset, cfg.test_dataloader.dataset.dataset):
        assert dataset.set == key and dataset.data_root == "data" and dataset.type == "subpt_dense.ImageSet"
        assert dataset.pipeline[1].size == 224
    assert cfg.train_dataloader.dataset.pipeline[1].type == "subpt_dense.CLIPAugment"


@pytest.mark.parametrize("key", list(IMAGE_SETS)[11:])
def test_a_variant_of_imagenet_is_for_testing(tmp_path: Path, key: str) -> None:
    cfg = Config.fromfile(FOLDER / f"cls_{key}.py")
    moved(cfg._cfg_dict, tmp_path)
    with pytest.raises(FileNotFoundError, match=IMAGE_SETS[key].images):
        require_files(cfg)
    write_set(tmp_path, key)
    require_files(cfg)
    test = DATASETS.build(cfg.test_dataloader.dataset.dataset)
    assert test.metainfo["set"] == key and set(test.metainfo["classes"]) <= set(IMAGENET_NAMES)
    assert test.metainfo["novel_classes"] == () and cfg.train_dataloader is None
    assert get_templates(cfg.templates) == (IMAGE_SETS[key].template,)


def test_imagenet_whole_trains_on_every_class(tmp_path: Path) -> None:
    cfg = Config.fromfile(FOLDER / "cls_imagenet_whole.py")
    moved(cfg._cfg_dict, tmp_path)
    write_set(tmp_path, "imagenet")
    cfg.train_dataloader.dataset.update(draw_dir=str(tmp_path / "draws"))
    train = DATASETS.build(cfg.train_dataloader.dataset)
    test = DATASETS.build(cfg.test_dataloader.dataset.dataset)
    assert train.metainfo["classes"] == test.metainfo["classes"] == IMAGENET_NAMES and len(train) == 16
    assert train.metainfo["novel_classes"] == test.metainfo["novel_classes"] == () and cfg.names == {}
    assert cfg.val_evaluator.protocol == cfg.test_evaluator.protocol == "imagenet few-shot"


def test_test_images_pass_the_classifiers_own_tower() -> None:
    classifier = Config.fromfile(FOLDER.parent / "classifiers" / "clip_b16.py")
    cfg = Config.fromfile(FOLDER / "cls_dtd.py")
    assert cfg.test_dataloader.dataset.image == classifier.model.language.text
