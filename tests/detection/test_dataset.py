import json
from pathlib import Path

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmengine.dataset import BaseDataset
from PIL import Image

from subpt_dense.datasets import get_split
from subpt_dense.detection import NamedCOCO, OVCocoDataset
from subpt_dense.registry import DATASETS
from tests.detection.coco_files import BASE, NOVEL, ORDERS, SPLIT, World, write_world


@pytest.fixture(params=ORDERS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return write_world(tmp_path, request.param)


@pytest.fixture
def scrambled(tmp_path: Path) -> World:
    return write_world(tmp_path, "both scrambled")


def make(world: World, **kwargs) -> OVCocoDataset:
    return OVCocoDataset(
        **(
            {"split": SPLIT, "ann_file": str(world.path), "data_prefix": {"img": "images"}, "serialize_data": False}
            | kwargs
        )
    )


def boxes(dataset: BaseDataset) -> set[tuple]:
    """(image id, class name, box) as the data set's labels say."""
    classes = dataset.metainfo["classes"]
    return {
        (info["img_id"], classes[instance["bbox_label"]], *np.round(instance["bbox"], 4))
        for info in (dataset.get_data_info(i) for i in range(len(dataset)))
        for instance in info["instances"]
    }


def expected_boxes(world: World, names: tuple[str, ...]) -> set[tuple]:
    content = json.loads(world.path.read_text())
    by_id = {i: name for name, i in world.ids.items()}
    return {
        (ann["image_id"], by_id[ann["category_id"]], *np.round([x, y, x + w, y + h], 4))
        for ann in content["annotations"]
        for x, y, w, h in [ann["bbox"]]
        if by_id[ann["category_id"]] in names
    }


class TestLabels:
    @pytest.mark.parametrize(("group", "names"), [("base", BASE), ("novel", NOVEL), ("all", BASE + NOVEL)])
    def test_are_positions_in_the_names_whatever_the_file(
        self, world: World, group: str, names: tuple[str, ...]
    ) -> None:
        dataset = make(world, group=group, test_mode=True)
        assert dataset.metainfo["classes"] == names
        assert dataset.cat_ids == [world.ids[name] for name in names]
        assert boxes(dataset) == expected_boxes(world, names) != set()

    def test_of_the_host_are_right_only_for_a_file_in_label_order(self, world: World) -> None:
        meta = {"classes": BASE + NOVEL}
        host = CocoDataset(ann_file=str(world.path), metainfo=meta, data_prefix={"img": ""}, test_mode=True)
        in_order = world.path.name in ("as_labels.json", "ids_scrambled.json")
        assert (boxes(host) == expected_boxes(world, BASE + NOVEL)) == in_order

    def test_keep_crowds_as_ignored(self, scrambled: World) -> None:
        dataset = make(scrambled, group="all")
        flags = [i["ignore_flag"] for n in range(len(dataset)) for i in dataset.get_data_info(n)["instances"]]
        content = json.loads(scrambled.path.read_text())
        wanted = {scrambled.ids[name] for name in BASE + NOVEL}
        crowds = sum(ann["iscrowd"] for ann in content["annotations"] if ann["category_id"] in wanted)
        assert sum(flags) == crowds > 0

    def test_come_from_an_official_file_as_from_a_cut_one(self, scrambled: World, tmp_path: Path) -> None:
        whole = make(scrambled, filter_cfg={"filter_empty_gt": True})
        content = json.loads(scrambled.path.read_text())
        content["categories"] = [category for category in content["categories"] if category["name"] in BASE]
        kept = {category["id"] for category in content["categories"]}
        content["annotations"] = [ann for ann in content["annotations"] if ann["category_id"] in kept]
        cut = World(tmp_path / "cut.json", scrambled.ids, scrambled.image_ids, [])
        cut.path.write_text(json.dumps(content))
        assert boxes(make(cut, filter_cfg={"filter_empty_gt": True})) == boxes(whole)


class TestImages:
    def test_empty_ones_stay_in_testing_and_go_where_training_asks(self, scrambled: World) -> None:
        filter_cfg = {"filter_empty_gt": True}
        assert len(make(scrambled, test_mode=True, filter_cfg=filter_cfg)) == 12
        assert len(make(scrambled, group="all")) == 12
        assert len(make(scrambled, group="all", filter_cfg=filter_cfg)) == 10

    def test_a_subset_keeps_its_labels(self, scrambled: World) -> None:
        dataset = make(scrambled, test_mode=True, indices=[3, 5])
        chosen = {scrambled.image_ids[i] for i in (3, 5)}
        assert boxes(dataset) == {row for row in expected_boxes(scrambled, BASE + NOVEL) if row[0] in chosen}

    def test_one_that_cannot_be_loaded_ends_a_test_by_name(self, scrambled: World, tmp_path: Path) -> None:
        pipeline = [{"type": "subpt_dense.LoadImage", "on_error": "skip"}]
        dataset = make(scrambled, data_prefix={"img": str(tmp_path)}, pipeline=pipeline, test_mode=True)
        name = f"{scrambled.image_ids[4]}.png"
        with pytest.raises(RuntimeError, match=rf"No image may be skipped in testing.* .*{name} came out .* as None"):
            dataset[4]

    def test_one_that_cannot_be_loaded_is_replaced_in_training(self, scrambled: World, tmp_path: Path) -> None:
        pipeline = [{"type": "subpt_dense.LoadImage", "on_error": "skip"}]
        good = scrambled.image_ids[7]
        Image.new("RGB", (300, 300)).save(tmp_path / f"{good}.png")
        dataset = make(scrambled, data_prefix={"img": str(tmp_path)}, pipeline=pipeline)
        assert dataset[0]["img_id"] == good


def test_samples_pass_through_the_hosts_pipeline(scrambled: World, tmp_path: Path) -> None:
    pipeline = [
        {"type": "subpt_dense.LoadImage"},
        {"type": "mmdet.LoadAnnotations", "with_bbox": True, "with_mask": True},
        {"type": "mmdet.PackDetInputs"},
    ]
    for image_id in scrambled.image_ids:
        Image.new("L", (300, 300), image_id % 256).save(tmp_path / f"{image_id}.png")
    dataset = make(scrambled, group="all", data_prefix={"img": str(tmp_path)}, pipeline=pipeline)
    for sample, info in ((dataset[i], dataset.get_data_info(i)) for i in (0, 5)):  # the first image is empty
        truth, ignored = sample["data_samples"].gt_instances, sample["data_samples"].ignored_instances
        assert sample["inputs"].shape == (3, 300, 300) and sample["inputs"].float().mean() == info["img_id"] % 256
        labels = [i["bbox_label"] for i in info["instances"] if not i["ignore_flag"]]
        assert truth.labels.tolist() == labels and len(truth.masks) == len(labels)
        assert len(ignored) == len(info["instances"]) - len(labels)


class TestMetainfo:
    @pytest.mark.parametrize(("test_mode", "group"), [(False, "base"), (True, "all")])
    def test_says_who_is_base_and_novel(self, scrambled: World, test_mode: bool, group: str) -> None:
        meta = make(scrambled, test_mode=test_mode).metainfo
        assert (meta["base_classes"], meta["novel_classes"], meta["split"], meta["group"]) == (
            BASE,
            NOVEL,
            "letters",
            group,
        )

    def test_takes_further_entries_but_not_classes(self, scrambled: World) -> None:
        assert make(scrambled, metainfo={"palette": "coco"}).metainfo["palette"] == "coco"
        with pytest.raises(ValueError, match="must not set what `split` and `group` decide. Got classes, group"):
            make(scrambled, metainfo={"classes": ("a",), "group": "all"})

    def test_is_not_read_from_files_that_have_a_groups_name(
        self, scrambled: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("base").write_text("from a file")
        assert make(scrambled).metainfo["group"] == "base"

    def test_has_cocos_colours_for_cocos_names(self, tmp_path: Path) -> None:
        split = get_split("coco_ovd")
        categories = [{"id": i, "name": name} for i, name in zip(split.ids, split.all, strict=True)]
        path = tmp_path / "empty.json"
        path.write_text(json.dumps({"images": [], "annotations": [], "categories": categories[::-1]}))
        dataset = OVCocoDataset(split="coco_ovd", ann_file=str(path), group="all", serialize_data=False)
        colours = dict(zip(CocoDataset.METAINFO["classes"], CocoDataset.METAINFO["palette"], strict=True))
        assert dataset.cat_ids == list(split.ids)
        assert dataset.metainfo["palette"] == [colours[name] for name in split.all]


class TestErrors:
    def test_names_missing_from_the_file_name_both_sides(self, scrambled: World) -> None:
        split = {"name": "other", "base": ["ant", "gnu"], "novel": ["emu", "bee"]}
        with pytest.raises(
            ValueError, match=r"both_scrambled.json must hold each of the 4 .* Missing: gnu, emu. It has 10 .*zebra"
        ):
            make(scrambled, split=split, group="all")

    @pytest.mark.parametrize(("key", "value"), [("name", "ant"), ("id", 3)])
    def test_repeated_categories(self, scrambled: World, key: str, value: object) -> None:
        content = json.loads(scrambled.path.read_text())
        for category in content["categories"][:2]:
            category[key] = value
        content["categories"] = [c for c in content["categories"][2:] if c[key] != value] + content["categories"][:2]
        scrambled.path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=f"must be distinct. Got the {key} {value} more than once"):
            make(scrambled)

    def test_unknown_group(self, scrambled: World) -> None:
        with pytest.raises(
            ValueError, match="`group` of split 'letters' must be one of 'base', 'novel', 'all'. Got 'seen'"
        ):
            make(scrambled, group="seen")

    def test_an_image_folder_under_another_key(self, scrambled: World) -> None:
        with pytest.raises(ValueError, match=r"must name the image folder as `img`. Got {'img_path': 'train'}"):
            make(scrambled, data_prefix={"img_path": "train"})

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"images": [', "cut.json must be a JSON object. Got: "),
            ("[]", "cut.json must be a JSON object"),
            ('{"images": [], "info": {}}', "cut.json must hold .* Got no annotations, categories"),
        ],
    )
    def test_a_file_that_is_not_cocos(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "cut.json"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            OVCocoDataset(split=SPLIT, ann_file=str(path))


def test_the_api_leaves_other_queries_to_pycocotools(scrambled: World) -> None:
    api = NamedCOCO(str(scrambled.path))
    assert set(api.get_cat_ids()) == set(scrambled.ids.values())
    assert api.get_cat_ids(cat_names="yak") == [scrambled.ids["yak"]]
    assert api.get_cat_ids(cat_names=["yak", "ant"]) == [scrambled.ids["yak"], scrambled.ids["ant"]]
    assert len(api.get_cat_ids(sup_names=["animal"])) == 10


def test_builds_from_a_config(scrambled: World) -> None:
    cfg = {"type": "subpt_dense.OVCocoDataset", "split": SPLIT, "ann_file": str(scrambled.path), "lazy_init": True}
    dataset = DATASETS.build(cfg)
    assert isinstance(dataset, OVCocoDataset) and dataset.metainfo["classes"] == BASE
