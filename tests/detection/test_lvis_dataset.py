import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import ClassBalancedDataset
from mmengine.runner import Runner

from subpt_dense.datasets import get_split
from subpt_dense.datasets.name_lists import lvis_v1
from subpt_dense.detection import LVISDataset
from subpt_dense.hooks.vocabulary_hook import _parts
from subpt_dense.registry import DATASETS
from tests.detection.lvis_files import BASE, NOVEL, SPLIT, World, write_world


@pytest.fixture(params=[False, True], ids=["ids in order", "ids scrambled"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return write_world(tmp_path, scrambled=request.param)


def make(world: World, **kwargs) -> LVISDataset:
    given = {"split": SPLIT, "ann_file": str(world.path), "data_prefix": {"img": "images"}, "serialize_data": False}
    return LVISDataset(**(given | kwargs))


def items(dataset: LVISDataset) -> dict[int, dict]:
    return {info["img_id"]: info for info in map(dataset.get_data_info, range(len(dataset)))}


@pytest.mark.parametrize(("group", "names"), [("base", BASE), ("all", BASE + NOVEL)])
def test_labels_are_positions_in_the_names(world: World, group: str, names: tuple[str, ...]) -> None:
    found = items(make(world, group=group, test_mode=True))
    assert found.keys() == world.images.keys()
    for i, info in found.items():
        boxes = {(names[one["bbox_label"]], *np.round(one["bbox"]).astype(int)) for one in info["instances"]}
        assert boxes == {(name, *box) for name, box in world.images[i].truth if name in names}
        assert all(one["mask"] and not one["ignore_flag"] for one in info["instances"])
        for key, wanted in (("neg_labels", world.images[i].absent), ("not_exhaustive_labels", world.images[i].partly)):
            assert {names[label] for label in info[key]} == wanted & set(names)
    assert any(info["neg_labels"] for info in found.values())


def test_images_are_looked_for_in_the_folder_of_their_address(world: World) -> None:
    urls = {one["id"]: one["coco_url"] for one in json.loads(world.path.read_text())["images"]}
    folders = {"img": "", "train": "train2017/", "val": "val2017/"}
    found = items(make(world, data_root="lvis", data_prefix=folders, ann_file=str(world.path.resolve())))
    assert {info["img_path"].split("/")[-2] for info in found.values()} == {"train2017", "val2017"}
    for i, info in found.items():
        assert info["img_path"] == urls[i].replace("http://images.cocodataset.org", "lvis")


@pytest.mark.parametrize("key", ["coco_url", "neg_category_ids", "not_exhaustive_category_ids"])
def test_a_file_that_is_not_lviss_is_refused(world: World, key: str) -> None:
    content = json.loads(world.path.read_text())
    del content["images"][3][key]
    world.path.write_text(json.dumps(content))
    i = content["images"][3]["id"]
    with pytest.raises(ValueError, match=rf"lvis.json must be LVIS's, .*Image {i} has no {key}. Use .*OVCocoDataset"):
        make(world)


def test_the_split_is_lviss_own(tmp_path: Path) -> None:
    """The 1203 categories in reverse, so that a label by position would be wrong."""
    categories = [{"id": i, "name": name, "frequency": f} for i, (name, f) in enumerate(lvis_v1(), start=1)]
    path = tmp_path / "empty.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": categories[::-1]}))
    dataset = LVISDataset(ann_file=str(path), group="all", test_mode=True, serialize_data=False)
    assert tuple(dataset.cat_ids) == get_split("lvis_v1").ids
    assert len(LVISDataset(ann_file=str(path), serialize_data=False).metainfo["classes"]) == 866


def test_rare_images_are_repeated_inside_the_hosts_wrapper(world: World) -> None:
    inner = {"type": "subpt_dense.LVISDataset", "split": SPLIT, "ann_file": str(world.path), "group": "base"}
    inner["data_prefix"] = {"img": ""}
    dataset = DATASETS.build({
        "type": "mmengine.ClassBalancedDataset", "oversample_thr": 0.9, "dataset": inner,
    })  # fmt: skip
    assert isinstance(dataset, ClassBalancedDataset) and len(dataset) > len(world.images)
    assert dataset.metainfo["classes"] == BASE
    (part,) = _parts(dataset)
    assert isinstance(part, LVISDataset) and part.labels_by_name
    Runner.build_dataloader({
        "dataset": dataset, "batch_size": 2, "num_workers": 0,
        "sampler": {"type": "mmengine.DefaultSampler", "shuffle": True},
        "batch_sampler": {"type": "mmdet.AspectRatioBatchSampler"},
    })  # fmt: skip
