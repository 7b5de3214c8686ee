"""The data sets for transfer: each config's file, names and protocol fit each other and the classes they build."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from subpt_dense import detection
from subpt_dense.datasets import get_split, require_files
from subpt_dense.registry import DATASETS, METRICS

CONFIGS = Path(__file__).parents[2] / "configs/_base_/datasets"
# name: (names, what the missing-data check must name)
SETS = {
    "ovd_voc07": (20, ("VOC2007/voc07_test.json", "VOC2007/JPEGImages", "tools/prepare_data.py voc07")),
    "ovd_coco80": (80, ("coco/annotations/instances_val2017.json", "coco/val2017", "cocodataset.org")),
    "ovd_objects365": (365, ("Obj365_v1/annotations/objects365_val.json", "Obj365_v1/val", "objects365.org")),
    "ovd_objects365v2": (365, ("Obj365_v2/annotations/zhiyuan_objv2_val.json", "Obj365_v2/val", "objects365.org")),
}


@pytest.fixture(params=SETS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_missing_data_is_named_with_what_to_do(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        require_files(Config.fromfile(CONFIGS / f"{name}.py"), stages=("test",))
    for expected in SETS[name][1]:
        assert expected in str(error.value)


def test_builds_on_an_annotation_file_of_its_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    names = get_split(cfg.test_dataloader.dataset.split).all
    content = {
        "images": [{"id": 5, "file_name": "a.jpg", "width": 9, "height": 9}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 2, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}],
        "categories": [{"id": i, "name": one} for i, one in enumerate(names, start=1)][::-1],
    }
    path = Path(cfg.test_evaluator.ann_file)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    dataset = DATASETS.build({**cfg.test_dataloader.dataset, "pipeline": []})
    assert isinstance(dataset, detection.OVCocoDataset)
    assert len(names) == len(dataset.metainfo["classes"]) == SETS[name][0]
    assert dataset.get_data_info(0)["instances"][0]["bbox_label"] == 1 and dataset.metainfo["classes"][1] == names[1]
    metric = METRICS.build(cfg.test_evaluator)
    assert "transfer" in metric.protocol and metric.ann_file == str(path)
