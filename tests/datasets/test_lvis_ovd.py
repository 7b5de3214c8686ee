import json
import logging
from pathlib import Path

import pytest

from subpt_dense.datasets import get_split, write_lvis_ovd
from subpt_dense.datasets.name_lists import lvis_v1
from tests.tools.load_tool import load_tool

SPLIT = get_split("lvis_v1")
MADE = "lvis_v1_train_base.json"
IDS = {name: i for i, (name, _) in enumerate(lvis_v1(), start=1)}
# Image 1: base and rare; 2: rare only; 3: nothing; 4: base twice, frequent and common.
SHOWN = [(1, "person"), (1, "baboon"), (2, "wolf"), (4, "bat_(animal)"), (4, "person")]


def official(**changes) -> dict:
    made = {
        "info": {"year": 2020},
        "licenses": [],
        "images": [{"id": i, "coco_url": f"http://x/train2017/{i}.jpg", "neg_category_ids": [31]} for i in range(1, 5)],
        "annotations": [
            {"id": n, "image_id": image, "category_id": IDS[name], "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 3]]}
            for n, (image, name) in enumerate(SHOWN, start=1)
        ],
        "categories": [
            {"id": i, "name": name, "frequency": frequency, "def": "x"}
            for i, (name, frequency) in reversed([*enumerate(lvis_v1(), start=1)])
        ],
    }
    return made | changes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "annotations").mkdir()
    for part in ("train", "val"):
        (tmp_path / "annotations" / f"lvis_v1_{part}.json").write_text(json.dumps(official()))
    return tmp_path


def test_training_keeps_frequent_and_common_boxes_and_their_images(root: Path) -> None:
    counts = write_lvis_ovd(root)
    content = json.loads((root / "annotations" / MADE).read_text())
    assert [(one["image_id"], one["id"]) for one in content["annotations"]] == [(1, 1), (4, 4), (4, 5)]
    assert [image["id"] for image in content["images"]] == [1, 4]
    assert {category["name"] for category in content["categories"]} == set(SPLIT.base)
    assert content["info"] == {"year": 2020} and content["annotations"][0]["segmentation"] == [[1, 2, 3]]
    assert content["images"][0]["neg_category_ids"] == [31]
    assert counts == {MADE: {"images": 2, "annotations": 3, "categories": 866}}
    assert sorted(path.name for path in (root / "annotations").iterdir()) == [
        "lvis_v1_train.json", MADE, "lvis_v1_val.json",
    ]  # fmt: skip


def test_counts_that_differ_from_the_published_are_warned_of(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        write_lvis_ovd(root)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "lvis_v1_val.json has 4 images, but the published file 19809" in warnings[0]
    assert "lvis_v1_train.json has 4 images, but the published file 100170" in warnings[1]


def test_missing_official_files_are_all_named(root: Path) -> None:
    (root / "annotations" / "lvis_v1_val.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"Missing: \S*lvis_v1_val.json. .*lvis_v1_val.json.zip"):
        write_lvis_ovd(root)
    with pytest.raises(FileNotFoundError, match=r"lvis_v1_train.json, \S*lvis_v1_val.json"):
        write_lvis_ovd(root / "elsewhere")


def other_categories(index: int, **changes) -> list[dict]:
    categories = official()["categories"]
    categories[index] |= changes
    return categories


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categories": other_categories(-1, name="acorn")}, r"1 is \('acorn', 'c'\), not \('aerosol_can', 'c'\)"),
        ({"categories": other_categories(-31, frequency="c")}, r"31 is \('baboon', 'c'\), not \('baboon', 'r'\)"),
        ({"categories": other_categories(-2, id=1230)}, r"2 is None, not .*; 1230 is \('air_conditioner', 'f'\)"),
        ({"categories": []}, r"1 is None, not \('aerosol_can', 'c'\); .* and 1198 more"),
    ],
)
@pytest.mark.parametrize("part", ["train", "val"])
def test_other_categories_are_refused_before_anything_is_written(
    root: Path, part: str, changes: dict, message: str
) -> None:
    (root / "annotations" / f"lvis_v1_{part}.json").write_text(json.dumps(official(**changes)))
    with pytest.raises(
        ValueError, match=rf"lvis_v1_{part}.json must be LVIS v1's \(id, name and frequency\). Got: {message}"
    ):
        write_lvis_ovd(root)
    assert not (root / "annotations" / MADE).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"images": [', "be LVIS's JSON. Got: .*cut short"), ('{"images": []}', "Got no annotations, categories")],
)
def test_a_damaged_file_is_named(root: Path, text: str, message: str) -> None:
    (root / "annotations" / "lvis_v1_train.json").write_text(text)
    with pytest.raises(ValueError, match=rf"lvis_v1_train.json must .*{message}"):
        write_lvis_ovd(root)


def test_the_command_writes_the_file_or_says_what_is_missing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_tool("prepare_data").main(["lvis-ovd", "--root", str(root)])
    assert (root / "annotations" / MADE).is_file()
    with pytest.raises(SystemExit) as caught:
        load_tool("prepare_data").main(["lvis-ovd", "--root", str(root / "none")])
    assert caught.value.code == 1 and "lvis_v1_train.json" in capsys.readouterr().err
