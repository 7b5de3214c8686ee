import json
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

import subpt_dense.classification  # noqa: F401  (registers)
from subpt_dense.classification.dataset import ImageSet
from subpt_dense.datasets import IMAGE_SETS, get_split, list_sha256, read_images
from subpt_dense.registry import DATASETS
from tests.datasets.image_files import IMAGENET_NAMES, NAMES, SIZES, write_folders, write_set

PIPELINE = [
    {"type": "subpt_dense.LoadImageRGB"},
    {"type": "subpt_dense.CLIPCrop", "size": 16},
    {"type": "subpt_dense.PackImage"},
]


def build(root: Path, key: str = "dtd", **kwargs) -> ImageSet:
    made = {"type": "subpt_dense.ImageSet", "set": key, "data_root": str(root), "draw_dir": str(root / "draws")}
    return DATASETS.build(made | kwargs)


def labels(dataset: ImageSet) -> list[tuple[str, str]]:
    """(file, class name of its label) of each item."""
    classes = dataset.metainfo["classes"]
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    return [(info["img_path"], classes[info["gt_label"]]) for info in infos]


@pytest.mark.parametrize("key", IMAGE_SETS)
def test_every_set_gives_items(tmp_path: Path, key: str) -> None:
    write_set(tmp_path, key, pixels=True)
    dataset = build(tmp_path, key, part="test", pipeline=PIPELINE)
    listed = read_images(key, tmp_path, "test")
    expected = IMAGENET_NAMES if key.startswith("imagenet") else NAMES
    expected = expected[1:] if key in ("imagenet_a", "imagenet_r") else expected
    assert dataset.metainfo["classes"] == expected and len(dataset) == len(listed)
    assert labels(dataset) == [(str(listed.root / path), name) for path, _, name in listed.images]
    assert dataset.metainfo["set"] == key and dataset.metainfo["part"] == "test"
    first = dataset[0]
    assert first["inputs"].shape == (3, 16, 16) and first["inputs"].dtype == torch.uint8 and first["index"] == 0


class TestGroups:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        write_set(tmp_path, "dtd")
        return tmp_path

    def test_first_half_is_base(self, root: Path) -> None:
        everyone, base, novel = (build(root, part="test", group=group) for group in ("all", "base", "novel"))
        assert base.metainfo["classes"] == NAMES[:3] and novel.metainfo["classes"] == NAMES[3:]
        for dataset in (everyone, base, novel):
            assert dataset.metainfo["base_classes"] == NAMES[:3] and dataset.metainfo["novel_classes"] == NAMES[3:]
        assert sorted(labels(base) + labels(novel)) == sorted(labels(everyone))
        assert {info["gt_label"] for info in (novel.get_data_info(i) for i in range(len(novel)))} == {0, 1}

    def test_a_split_orders_and_leaves_out(self, root: Path) -> None:
        split = {"name": "mine", "base": ["cat", "ant"], "novel": ["zebra crossing"]}
        (root / "split.json").write_text(json.dumps(split))
        dataset = build(root, part="val", split=str(root / "split.json"))
        assert dataset.metainfo["classes"] == ("cat", "ant", "zebra crossing") and len(dataset) == 3 * SIZES["val"]
        assert all(("class_4" in path) == (name == "cat") for path, name in labels(dataset))
        with pytest.raises(ValueError, match="Split 'mine' must hold class names of dtd only. Got 'dog'"):
            build(root, split=split | {"base": ["dog"]})

    def test_whole_has_no_novel_class(self, root: Path) -> None:
        dataset = build(root, split="whole")
        assert dataset.metainfo["base_classes"] == NAMES and dataset.metainfo["novel_classes"] == ()
        with pytest.raises(ValueError, match="`group` of ImageSet must be 'base' or 'all' with split='whole'"):
            build(root, split="whole", group="novel")

    def test_labels_agree_with_the_split_of_the_anchors(self, root: Path) -> None:
        split = get_split({"set": "dtd", "data_root": str(root)})
        assert build(root, part="test").metainfo["classes"] == split.all

    def test_metainfo_names_the_list_and_hashes_what_is_kept(self, root: Path) -> None:
        base = build(root, part="test", group="base")
        file = root / "dtd" / "split_zhou_DescribableTextures.json"
        assert base.metainfo["annotation_file"] == str(file)  # not its lines, which mmengine would put there
        kept = [entry for entry in read_images("dtd", root, "test").images if entry[1] < 3]
        assert base.metainfo["annotation_sha256"] == list_sha256(kept)
        assert base.metainfo["annotation_sha256"] != build(root, part="test").metainfo["annotation_sha256"]
        assert base.get_cat_ids(0) == [base.get_data_info(0)["gt_label"]] and base.labels_by_name


class TestDraws:
    def test_groups_share_one_draw(self, tmp_path: Path) -> None:
        write_set(tmp_path, "eurosat")
        train = build(tmp_path, "eurosat", group="base", shots=2, draw=3)
        assert len(train) == 6 and (tmp_path / "draws" / "few_shot" / "eurosat_2shot_seed3.json").is_file()
        assert set(labels(train)) <= set(labels(build(tmp_path, "eurosat", shots=2, draw=3)))
        assert labels(train) != labels(build(tmp_path, "eurosat", group="base", shots=2, draw=4))
        val = build(tmp_path, "eurosat", part="val", group="base", shots=5)
        assert len(val) == 12 and all("/val_" in path for path, _ in labels(val))

    def test_a_set_without_validation_images_takes_what_training_left(self, tmp_path: Path) -> None:
        write_set(tmp_path, "imagenet")
        train = build(tmp_path, "imagenet", shots=2)
        val = build(tmp_path, "imagenet", part="val", shots=2)
        assert len(train) == len(val) == 8 and not set(labels(train)) & set(labels(val))
        assert val.metainfo["part"] == "val" and all("/train/" in path for path, _ in labels(val))
        with pytest.raises(ValueError, match="`shots` of ImageSet must be a number for part='val' of 'imagenet'"):
            build(tmp_path, "imagenet", part="val")
        with pytest.raises(ValueError, match="must leave training images over .* Got 6, and no image left"):
            build(tmp_path, "imagenet", part="val", shots=6)

    def test_a_test_part_is_not_drawn_from(self, tmp_path: Path) -> None:
        write_set(tmp_path, "dtd")
        with pytest.raises(ValueError, match="`shots` of ImageSet must be None for part='test'.* Got 4"):
            build(tmp_path, part="test", shots=4)


class TestFolders:
    @pytest.fixture
    def toy(self, tmp_path: Path) -> dict:
        write_folders(
            tmp_path / "toy",
            {"crops/train": {"red_star": 5, "a_dot": 5}, "crops/val": {"red_star": 2, "a_dot": 2, "ring": 2}},
            pixels=True,
        )
        split = {"name": "toy", "base": ["red star", "a dot"], "novel": ["ring"]}
        (tmp_path / "toy" / "split.json").write_text(json.dumps(split))
        return {
            "key": "folder",
            "root": tmp_path / "toy",
            "folders": {"train": "crops/train", "test": "crops/val"},
            "split": str(tmp_path / "toy" / "split.json"),
        }

    def test_the_split_orders_the_labels(self, toy: dict) -> None:
        train, test = build(**toy, group="base", shots=3), build(**toy, part="test")
        assert train.metainfo["classes"] == ("red star", "a dot") and len(train) == 6
        assert test.metainfo["classes"] == ("red star", "a dot", "ring") and len(test) == 6
        for path, name in labels(train) + labels(test):
            assert f"/{name.replace(' ', '_')}/" in path
        assert test.metainfo["set"] == "toy" and test.metainfo["annotation_file"].endswith("toy/crops/val")
        assert len(build(**toy, part="val", group="base", shots=3)) == 4

    def test_training_without_images_of_a_class_is_refused(self, toy: dict) -> None:
        with pytest.raises(
            ValueError, match="'train' of toy, .* must hold images of each class of group 'all'. .*: ring"
        ):
            build(**toy, group="all")

    def test_batches(self, toy: dict) -> None:
        loader = {
            "batch_size": 4,
            "num_workers": 0,
            "sampler": {"type": "mmengine.DefaultSampler", "shuffle": False},
            "collate_fn": {"type": "default_collate"},
            "dataset": build(**toy, part="test", pipeline=PIPELINE),
        }
        first, second = Runner.build_dataloader(loader, seed=0)
        assert first["inputs"].shape == (4, 3, 16, 16) and first["inputs"].dtype == torch.uint8
        assert first["label"].dtype == torch.int64 and second["index"].tolist() == [4, 5]


def test_errors_come_when_it_is_built(tmp_path: Path) -> None:
    write_set(tmp_path, "dtd")
    with pytest.raises(ValueError, match="`group` of ImageSet must be one of 'base', 'novel', 'all'. Got 'seen'"):
        build(tmp_path, group="seen")
    with pytest.raises(ValueError, match="`set` must be one of .* Got 'DTD'"):
        build(tmp_path, "DTD")
    (tmp_path / "dtd" / "images" / "class_0" / "train_0.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="The images of dtd .* must exist"):
        build(tmp_path, lazy_init=True)
