import importlib.util
import json
import logging
from pathlib import Path

import pytest

from subpt_dense.datasets import get_split, write_coco_ovd

SPLIT = get_split("coco_ovd")
TRAIN, VAL = "instances_train2017_seen_2.json", "instances_val2017_all_2.json"
# Image 1: base and novel; 2: novel only; 3: an ignored category only; 4: nothing; 5: a base crowd; 6: base twice.
SHOWN = [(1, "person"), (1, "cat"), (2, "dog"), (3, "hot dog"), (5, "car"), (6, "toothbrush"), (6, "person")]


def official(**changes) -> dict:
    names = dict(zip(SPLIT.ids, SPLIT.all, strict=True)) | {58: "hot dog", 77: "cell phone"}
    ids = {name: i for i, name in names.items()}
    annotations = [
        {"id": n, "image_id": image, "category_id": ids[name], "bbox": [1, 2, 3, 4], "iscrowd": int(name == "car")}
        for n, (image, name) in enumerate(SHOWN, start=1)
    ]
    made = {
        "info": {"year": 2017},
        "licenses": [{"id": 1}],
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(1, 7)],
        "annotations": annotations,
        "categories": [{"id": i, "name": names[i], "supercategory": "thing"} for i in sorted(names)],
    }
    return made | changes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "annotations").mkdir()
    for part in ("train", "val"):
        (tmp_path / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(official()))
    return tmp_path


def read(root: Path, name: str) -> dict:
    return json.loads((root / "annotations" / name).read_text())


def test_training_keeps_base_boxes_and_their_images(root: Path) -> None:
    counts = write_coco_ovd(root)
    content = read(root, TRAIN)
    assert [(ann["image_id"], ann["id"]) for ann in content["annotations"]] == [(1, 1), (5, 5), (6, 6), (6, 7)]
    assert [image["id"] for image in content["images"]] == [1, 5, 6]
    assert tuple(category["name"] for category in content["categories"]) == SPLIT.base
    assert content["info"] == {"year": 2017} and content["annotations"][0]["bbox"] == [1, 2, 3, 4]
    assert counts[TRAIN] == {"images": 3, "annotations": 4, "categories": 48}


def test_evaluation_keeps_all_65(root: Path) -> None:
    counts = write_coco_ovd(str(root))
    content = read(root, VAL)
    assert [image["id"] for image in content["images"]] == [1, 2, 5, 6]
    assert {category["name"] for category in content["categories"]} == set(SPLIT.all)
    assert [category["id"] for category in content["categories"]] == sorted(SPLIT.ids)
    assert counts[VAL] == {"images": 4, "annotations": 6, "categories": 65}


def test_counts_that_differ_from_the_literature_are_warned_of(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        write_coco_ovd(root)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2 and "has 3 images, but 107761 are reported" in warnings[0] and "4836" in warnings[1]
    assert any("(base names)" in record.getMessage() for record in caplog.records if record.levelno == logging.INFO)


def test_missing_official_files_are_all_named(root: Path) -> None:
    (root / "annotations" / "instances_val2017.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"Missing: .*instances_val2017.json. .*annotations_trainval2017.zip"):
        write_coco_ovd(root)
    with pytest.raises(FileNotFoundError, match="instances_train2017.json, .*instances_val2017.json"):
        write_coco_ovd(root / "elsewhere")


def other_categories(change) -> list[dict]:
    categories = official()["categories"]
    change(categories)
    return categories


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categories": other_categories(lambda c: c[0].update(name="man"))}, "1 is 'man', not 'person'"),
        ({"categories": other_categories(lambda c: c[1].update(id=99))}, "2 is None, not 'bicycle'"),
        ({"categories": []}, "1 is None, not 'person'; .* and 60 more"),
    ],
)
def test_other_categories_are_refused_before_anything_is_written(root: Path, changes: dict, message: str) -> None:
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(official(**changes)))
    with pytest.raises(ValueError, match=rf"instances_val2017.json must be COCO's \(id and name\). Got: {message}"):
        write_coco_ovd(root)
    assert not (root / "annotations" / TRAIN).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"images": [', "be COCO's JSON. Got: .*cut short"), ('{"images": []}', "Got no annotations, categories")],
)
def test_a_damaged_file_is_named(root: Path, text: str, message: str) -> None:
    (root / "annotations" / "instances_train2017.json").write_text(text)
    with pytest.raises(ValueError, match=rf"instances_train2017.json must .*{message}"):
        write_coco_ovd(root)


class TestCommand:
    @pytest.fixture
    def command(self):
        path = Path(__file__).parents[2] / "tools" / "prepare_data.py"
        spec = importlib.util.spec_from_file_location("prepare_data", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main

    def test_writes_both_files(self, root: Path, command) -> None:
        command(["coco-ovd", "--root", str(root)])
        assert read(root, TRAIN)["images"] and read(root, VAL)["images"]

    def test_says_what_is_missing(self, tmp_path: Path, command, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            command(["coco-ovd", "--root", str(tmp_path)])
        assert caught.value.code == 1 and "Missing: " in capsys.readouterr().err
