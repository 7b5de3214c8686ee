import json
from pathlib import Path

import pytest

from subpt_dense.datasets import IMAGE_SETS, get_image_set
from subpt_dense.datasets.check_sets import check_set
from tests.datasets.image_files import SIZES, split_content, write_folders, write_set


@pytest.mark.parametrize("key", IMAGE_SETS)
def test_a_set_in_its_layout_is_found_and_its_size_compared(tmp_path: Path, key: str) -> None:
    write_set(tmp_path, key, pixels=True)
    info = get_image_set(key)
    for images in (False, True):
        report = check_set(key, tmp_path, images=images)
        assert report.state == "found" and report.problems == []
        classes = 5 if not key.startswith("imagenet") else 3 if info.some_of_imagenet else 4
        assert report.classes == classes
        assert report.images == {part: classes * SIZES[part] for part in info.parts}
        assert report.remarks[0] == f"{classes} classes, published: {info.classes}."
        assert (
            len(report.remarks) == 1 + len(info.parts) and f"published: {info.counts['test']:,}" in report.remarks[-1]
        )


@pytest.mark.parametrize("key", IMAGE_SETS)
def test_all_that_is_missing_is_named(tmp_path: Path, key: str) -> None:
    report = check_set(key, tmp_path)
    info = get_image_set(key)
    needed = {path for part in info.parts for path, _ in info.needed(tmp_path, part)}
    assert report.state == "missing" and report.images == {} and report.classes is None
    assert {line.split(": no such")[0] for line in report.problems} == needed
    assert report.source == info.source and "https://" in report.source


def test_a_part_that_is_there_is_still_counted(tmp_path: Path) -> None:
    write_set(tmp_path, "imagenet")
    (tmp_path / "imagenet" / "images" / "train").rename(tmp_path / "elsewhere")
    report = check_set("imagenet", tmp_path)
    assert report.state == "missing" and report.images == {"test": 12}
    assert report.problems == [f"{tmp_path}/imagenet/images/train: no such folder"]


def test_a_malformed_list_says_what(tmp_path: Path) -> None:
    write_set(tmp_path, "dtd")
    file = tmp_path / "dtd" / "split_zhou_DescribableTextures.json"
    content = split_content()
    content["val"][3] = ["a.jpg"]
    file.write_text(json.dumps(content))
    report = check_set("dtd", tmp_path)
    assert report.state == "malformed" and len(report.problems) == 1
    assert "Entry 3 of `val` of split file" in report.problems[0] and str(file) in report.problems[0]
    file.write_text("{")
    assert "must be JSON" in check_set("dtd", tmp_path).problems[0]


def test_images_are_looked_for(tmp_path: Path) -> None:
    write_set(tmp_path, "dtd", pixels=True)
    folder = tmp_path / "dtd" / "images" / "class_2"
    for number in (1, 2, 4):
        (folder / f"train_{number}.jpg").unlink()
    (folder / "val_4.jpg").write_bytes(b"")
    assert check_set("dtd", tmp_path).state == "found"  # one image of each class is there
    seen: list[tuple[int, int]] = []
    report = check_set("dtd", tmp_path, images=True, progress=lambda *numbers: seen.append(numbers))
    assert report.state == "missing" and seen == [(70, 70)]
    first, second = report.problems
    assert first.startswith("3 of 30 images of `train`: ") and str(folder / "train_4.jpg") in first
    assert second == f"1 of 25 images of `val`: {folder / 'val_4.jpg'} (empty)"
    (folder / "test_0.jpg").unlink()
    (problem,) = check_set("dtd", tmp_path).problems
    assert "class_2/test_0.jpg" in problem and "--images" in problem


def test_many_missing_images_are_counted(tmp_path: Path) -> None:
    write_set(tmp_path, "dtd")
    report = check_set("dtd", tmp_path, images=True)  # every file is empty
    assert report.problems[0].startswith("30 of 30 images of `train`:") and report.problems[0].endswith("and 25 more")


def test_an_image_in_two_parts_is_remarked(tmp_path: Path) -> None:
    write_set(tmp_path, "dtd")
    content = split_content()
    content["test"] += content["train"][:2]
    (tmp_path / "dtd" / "split_zhou_DescribableTextures.json").write_text(json.dumps(content))
    report = check_set("dtd", tmp_path)
    assert report.state == "found" and report.remarks[-1] == "2 images stand in two parts."


def test_plain_folders(tmp_path: Path) -> None:
    write_folders(tmp_path, {"train": {"a": 2, "b": 1}, "test": {"c": 1}}, pixels=True)
    report = check_set(str(tmp_path))
    assert (report.state, report.classes, report.images) == ("found", 3, {"train": 3, "test": 1})
    (tmp_path / "empty").mkdir()
    assert check_set(str(tmp_path / "empty")).state == "malformed"
    with pytest.raises(
        ValueError, match="A classification set must be one of imagenet, .*, or an existing folder. Got 'dtd2'"
    ):
        check_set("dtd2", tmp_path)
