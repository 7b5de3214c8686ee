import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from subpt_dense.datasets import get_split
from subpt_dense.registry import DATASETS
from subpt_dense.segmentation.dataset import ZSSegDataset, palette
from tests.segmentation.label_files import (
    NUMBERS,
    SEEN,
    SIZE,
    SPLIT,
    UNSEEN,
    expected,
    numbers_of,
    write_map,
    write_world,
)

NAMES_255, NAMES_300 = ([f"name {k}" for k in range(count)] for count in (255, 300))
SPLIT_255 = {"name": "255", "base": NAMES_255[:9], "novel": NAMES_255[9:]}
SPLIT_300 = {"name": "300", "base": NAMES_300[:256], "novel": NAMES_300[256:]}


def make(world: dict, **kwargs) -> ZSSegDataset:
    return ZSSegDataset(**{**world, **kwargs})


@pytest.fixture
def world(tmp_path: Path) -> dict:
    return write_world(tmp_path)


class TestLabels:
    @pytest.mark.parametrize("mode", ["L", "P", "I;16"])
    @pytest.mark.parametrize(
        ("group", "classes"),
        [("seen", SEEN), ("base", SEEN), ("unseen", UNSEEN), ("novel", UNSEEN), ("all", SEEN + UNSEEN)],
    )
    def test_go_by_name(self, tmp_path: Path, mode: str, group: str, classes: tuple[str, ...]) -> None:
        data = make(write_world(tmp_path, mode=mode), group=group)
        assert data.metainfo["classes"] == classes and len(data) == 3
        for k, item in enumerate(data):
            labels = item["data_samples"].gt_sem_seg.data
            assert labels.dtype == torch.int64 and labels.shape == (1, *SIZE) and item["inputs"].shape == (3, *SIZE)
            assert (labels[0].numpy() == expected(numbers_of(k), classes)).all()

    def test_unseen_pixels_are_ignored_in_training_and_labelled_in_testing(self, world: dict) -> None:
        train, test = make(world), make(world, test_mode=True)
        assert (train.metainfo["group"], test.metainfo["group"]) == ("base", "all")
        unseen = np.isin(numbers_of(0), [NUMBERS.index(name) for name in UNSEEN])
        labels = [data[0]["data_samples"].gt_sem_seg.data[0].numpy() for data in (train, test)]
        assert unseen.any() and (labels[0][unseen] == 255).all() and set(labels[1][unseen]) == {3, 4}
        assert (labels[0][~unseen] == labels[1][~unseen]).all()

    def test_zero_may_be_no_class(self, tmp_path: Path) -> None:
        data = make(write_world(tmp_path, shift=1), reduce_zero_label=True, group="all")
        assert (data[1]["data_samples"].gt_sem_seg.data[0].numpy() == expected(numbers_of(1), SEEN + UNSEEN)).all()

    def test_a_built_in_split_knows_the_numbers(self, tmp_path: Path) -> None:
        world = write_world(tmp_path) | {"split": "voc_zss", "labels": None}
        write_map(tmp_path / "ann" / "000.png", np.array([[0, 1, 16, 20, 255]] * SIZE[0])[:, [0, 1, 2, 3] * 4])
        data = make(world, reduce_zero_label=True)
        split = get_split("voc_zss")
        assert data.label_map == {
            i: split.base.index(n) if n in split.base else 255 for i, n in zip(split.ids, split.all, strict=True)
        }
        assert data[0]["data_samples"].gt_sem_seg.data[0, 0, :4].tolist() == [255, 0, 255, 255]
        assert make(world, reduce_zero_label=True, group="all")[0]["data_samples"].gt_sem_seg.data[
            0, 0, :4
        ].tolist() == [255, 0, 15, 19]

    def test_names_may_be_spelled_otherwise_and_stand_in_a_file(self, world: dict, tmp_path: Path) -> None:
        (tmp_path / "names.txt").write_text("\n".join(name.replace("z", "Z") for name in NUMBERS))
        (tmp_path / "split.json").write_text(json.dumps(SPLIT))
        data = make(world, labels=str(tmp_path / "names.txt"), split=str(tmp_path / "split.json"))
        assert data.label_map == make(world).label_map
        (tmp_path / "names.txt").write_text("\n".join(("# in the order of the numbers", *NUMBERS)))
        with pytest.raises(ValueError, match="Got '# in the order of the numbers' in line 1"):
            make(world, labels=str(tmp_path / "names.txt"))

    @pytest.mark.parametrize(("zero", "names"), [(True, NAMES_255[:254]), (False, NAMES_255)])
    def test_255_is_ignored_up_to_the_last_number_below_it(self, tmp_path: Path, zero: bool, names: list[str]) -> None:
        split = {"name": "many", "base": names[:-1], "novel": names[-1:]}
        world = write_world(tmp_path, images=1) | {"split": split, "labels": names}
        write_map(tmp_path / "ann" / "000.png", np.full(SIZE, 254) + np.eye(*SIZE, dtype=int))
        labels = make(world, test_mode=True, reduce_zero_label=zero)[0]["data_samples"].gt_sem_seg.data
        assert labels.unique().tolist() == [len(names) - 1, 255] and (labels == 255).sum() == SIZE[0]

    def test_more_than_255_classes_are_trained_on_in_part(self, tmp_path: Path) -> None:
        split = {"name": "most", "base": NAMES_300[45:], "novel": NAMES_300[:45]}
        world = write_world(tmp_path, images=1) | {"split": split, "labels": NAMES_300, "ignore_index": 65535}
        numbers = np.resize(
            [44, 45, 255, 299, 65535], SIZE
        )  # novel, the first and a later base class, the last, nothing
        write_map(tmp_path / "ann" / "000.png", numbers, "I;16")
        data = make(world)
        assert len(data.metainfo["classes"]) == 255
        labels = data[0]["data_samples"].gt_sem_seg.data  # of pixels that do not count: 255, as the losses have it
        assert labels.flatten()[:5].tolist() == [255, 0, 210, 254, 255]
        tested = make(world, test_mode=True)[0]["data_samples"].gt_sem_seg.data  # both groups, base first
        assert tested.flatten()[:5].tolist() == [299, 0, 210, 254, 65535]

    def test_more_than_255_classes(self, tmp_path: Path) -> None:
        world = write_world(tmp_path, images=1) | {"split": "ade847", "labels": None, "ignore_index": 65535}
        write_map(tmp_path / "ann" / "000.png", np.full(SIZE, 846) - np.eye(*SIZE, dtype=int) * 591, "I;16")
        labels = make(world, test_mode=True)[0]["data_samples"].gt_sem_seg.data
        assert labels.unique().tolist() == [255, 846]


class TestMetainfo:
    def test_says_who_is_seen(self, world: dict) -> None:
        meta = make(world).metainfo
        assert (meta["base_classes"], meta["novel_classes"]) == (SEEN, UNSEEN)
        assert (meta["split"], meta["group"], len(meta["palette"])) == ("letters", "base", 3)
        assert meta["reduce_zero_label"] is False

    def test_further_entries(self, world: dict) -> None:
        meta = make(world, metainfo={"palette": [[1, 2, 3]] * 3, "source": "mine"}).metainfo
        assert meta["palette"] == [[1, 2, 3]] * 3 and meta["source"] == "mine"

    def test_colours_differ_and_begin_with_vocs(self) -> None:
        colours = palette(255)
        assert colours[:3] == [[128, 0, 0], [0, 128, 0], [128, 128, 0]] and len({tuple(c) for c in colours}) == 255


class TestImages:
    def test_indices_and_the_order_of_a_list(self, world: dict, tmp_path: Path) -> None:
        (tmp_path / "list.txt").write_text("002\n000\n\n")
        data = make(world, ann_file="list.txt")
        assert [Path(data.get_data_info(i)["img_path"]).stem for i in range(len(data))] == ["002", "000"]
        assert len(make(world, indices=2)) == 2 and len(make(world, indices=[1])) == 1

    def test_the_label_map_is_shared_not_copied(self, world: dict) -> None:
        data = make(world)
        assert data.get_data_info(0)["label_map"] is data.label_map
        assert all("label_map" not in entry for entry in data.load_data_list())

    def test_empty_maps_are_kept_by_default_and_skipped_on_demand(self, world: dict, tmp_path: Path) -> None:
        write_map(tmp_path / "ann" / "001.png", np.full(SIZE, NUMBERS.index("sky")))
        item = make(world)[1]
        assert (item["data_samples"].gt_sem_seg.data == 255).all()
        steps = [dict(step) for step in world["pipeline"]]
        steps[1]["on_empty"] = "skip"
        for _ in range(3):
            other = make(world, pipeline=steps)[1]
            assert not other["data_samples"].img_path.endswith("001.png")
        with pytest.raises(RuntimeError, match="No image may be skipped in testing.*001.png came out"):
            make(world, pipeline=steps, test_mode=True)[1]

    def test_work_with_the_hosts_batches(self, world: dict) -> None:
        from mmseg.models import SegDataPreProcessor

        data = make(world)
        batch = pseudo_collate([data[0], data[1]])
        made = SegDataPreProcessor(mean=[0.0] * 3, std=[1.0] * 3, size=(16, 16), seg_pad_val=255)(batch, training=True)
        assert made["inputs"].shape == (2, 3, 16, 16)
        assert (made["data_samples"][0].gt_sem_seg.data[:, 12:] == 255).all()


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"labels": None}, "`labels` of ZSSegDataset must say what the numbers .* split 'letters' has no `ids`"),
            ({"labels": ["zebra"]}, "must hold every name of split 'letters'. Missing: ant, bee, mule, yak"),
            ({"labels": ["zebra", "Zebra"]}, "must be distinct"),
            ({"split": "voc_zss"}, "must be left out for split 'voc_zss'"),
            ({"group": "old"}, "`group` of split 'letters' must be one of 'base', 'novel', 'all'. Got 'old'"),
            ({"metainfo": {"classes": ("a",)}}, "must not set what `split` and `group` decide. Got classes"),
            ({"data_prefix": {"img": "img"}}, "`data_prefix` of ZSSegDataset must name the image folder as `img_path`"),
            (
                {"labels": NAMES_255, "split": SPLIT_255, "reduce_zero_label": True},
                "files, which go up to 255. Got 255",
            ),
            ({"labels": NAMES_300, "split": SPLIT_300, "ignore_index": 65535}, "at most 255 classes for .* Got 256"),
            ({"ignore_index": 3}, "`ignore_index` of ZSSegDataset must be no label of the 3 classes .* Got 3"),
            ({"split": "ade847", "labels": None}, "no label of the 847 classes .* Got 255: take 65535"),
            ({"img_suffix": ".jpg"}, r"must hold at least one image. Got none from .*img \(suffix .jpg\)"),
        ],
    )
    def test_arguments(self, world: dict, change: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make(world, **change)

    def test_missing_files_are_named_before_training(self, world: dict, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="`ann_file` of ZSSegDataset names .*no.txt, which does not exist"):
            make(world, ann_file="no.txt")
        (tmp_path / "list.txt").write_text("000\n009\n")
        with pytest.raises(FileNotFoundError, match="1 of 2 images are not in .*img: 009"):
            make(world, ann_file="list.txt")
        (tmp_path / "ann" / "001.png").unlink()
        with pytest.raises(FileNotFoundError, match="1 of 3 label maps are not in .*ann: 001. data/README.md"):
            make(world)
        (tmp_path / "empty.txt").write_text("\n")
        with pytest.raises(ValueError, match="must hold at least one image. Got none from .*empty.txt"):
            make(world, ann_file="empty.txt")

    def test_a_broken_image_is_named(self, world: dict, tmp_path: Path) -> None:
        path = tmp_path / "img" / "001.png"
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(RuntimeError, match="Image .*001.png, or its label map, cannot be read"):
            make(world)[1]

    def test_a_number_of_no_class_is_an_error_with_the_file(self, world: dict, tmp_path: Path) -> None:
        write_map(tmp_path / "ann" / "001.png", np.full(SIZE, 7))
        with pytest.raises(ValueError, match=r"001.png must hold numbers of the data set's 7 classes .* Got 7"):
            make(world)[1]


def test_is_built_from_a_config(world: dict) -> None:
    assert len(DATASETS.build({"type": "subpt_dense.ZSSegDataset", **world})) == 3
