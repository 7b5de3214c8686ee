"""Proposal files and ground truth: what is kept, in what order, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subpt_dense.datasets import proposals as module
from subpt_dense.datasets import read_ground_truth, read_proposals
from tests.datasets.region_files import IMAGES, write_annotations


def row(image_id: Any, score: float, x: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"image_id": image_id, "bbox": [x, 2.0, 5.5, 6.0], "score": score, **more}


def write(path: Path, rows: Any) -> Path:
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return path


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    return write_annotations(tmp_path / "ann.json")


def test_best_of_every_image_in_the_images_order(tmp_path: Path, annotations: Path) -> None:
    rows = [
        row(8, 0.25, x=1),
        row(30, 0.5, x=2, category_id=7),
        row(8, 0.75, x=3),
        row(8, 0.25, x=4),
        row(8, 0.5, x=5),
    ]
    found = read_proposals(write(tmp_path / "p.json", rows), annotations, max_per_image=3)
    assert found.image_ids == (30, 4, 17, 8) and found.files == ("a.png", "b.png", "sub/c.png", "d.png")
    assert found.sizes.tolist() == [list(image[2:]) for image in IMAGES]
    assert found.offsets.tolist() == [0, 1, 1, 1, 4]
    assert found.boxes[:, 0].tolist() == [2, 3, 5, 1], "of equal scores the first in the file"
    assert found.scores.tolist() == [0.5, 0.75, 0.5, 0.25]
    assert found.boxes_of(0).tolist() == [[2, 2, 7.5, 8]] and found.boxes_of(1).shape == (0, 4)
    assert (found.boxes.dtype, found.scores.dtype, found.offsets.dtype) == (np.float32, np.float32, np.int64)


@pytest.mark.parametrize("chunk", [150, 151, 160, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_reading_piece_by_piece(
    chunk: int, indent: int | None, tmp_path: Path, annotations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    rows = [row(int(rng.choice([30, 4, 8])), float(rng.random()), float(rng.uniform(0, 20))) for _ in range(200)]
    path = write(tmp_path / "p.json", json.dumps(rows, indent=indent))
    monkeypatch.setattr(module, "_CHUNK", chunk)
    found = read_proposals(path, annotations, max_per_image=1000)
    for at, (image_id, *_) in enumerate(IMAGES):
        mine = sorted((each for each in rows if each["image_id"] == image_id), key=lambda each: -each["score"])
        expected = np.array([each["bbox"] for each in mine], dtype=np.float64).reshape(-1, 4)
        expected[:, 2:] += expected[:, :2]
        np.testing.assert_array_equal(found.boxes_of(at), expected.astype(np.float32))


def test_no_proposal_at_all(tmp_path: Path, annotations: Path) -> None:
    found = read_proposals(write(tmp_path / "p.json", " [ ] "), annotations)
    assert found.boxes.shape == (0, 4) and found.scores.shape == (0,) and found.offsets.tolist() == [0] * 5


BAD = [
    ("of another file", [row(99, 0.5)], "Row 0 is of image 99, which is not there"),
    ("without a score", [row(8, 0.5), {"image_id": 8, "bbox": [1, 2, 3, 4]}], "Row 1 is .*bbox"),
    ("of three numbers", [{"image_id": 8, "bbox": [1, 2, 3], "score": 1}], 'must be {"image_id", "bbox"'),
    ("of text", [{"image_id": 8, "bbox": [1, 2, 3, "4"], "score": 1}], "Row 0 is"),
    ("no score to sort by", "[" + json.dumps(row(8, float("nan"))) + "]", "score .* must be finite. Row 0"),
    ("empty", [row(8, 1) | {"bbox": [1, 2, 0, 3]}], r"Image 8 \(d.png, 50x60\) has the box \[1.0, 2.0, 1.0, 5.0\]"),
    ("backwards", [row(8, 1) | {"bbox": [9, 9, -4, 3]}], "empty or not finite; 1 are"),
    ("outside", [row(4, 1), row(4, 0.5, x=64)], r"Image 4 .*\[64.0, 2.0, 69.5, 8.0\].* wholly outside the image"),
    ("to the left", [row(4, 0.5, x=-5.5)], "wholly outside"),
    ("cut short", json.dumps([row(8, 1)])[:-20], r"must be a whole JSON list .*cut short"),
    ("not closed", json.dumps([row(8, 1)])[:-1], "must be a whole JSON list"),
    ("a dict", {"annotations": []}, "must be a JSON list of COCO results. It begins with"),
]


@pytest.mark.parametrize(("rows", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_refused_proposals(rows: Any, message: str, tmp_path: Path, annotations: Path) -> None:
    path = write(tmp_path / "p.json", rows)
    with pytest.raises(ValueError, match=message) as raised:
        read_proposals(path, annotations)
    assert str(path) in str(raised.value)


def test_rubbish_in_the_middle_is_not_read_to_the_end(
    tmp_path: Path, annotations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 200)
    path = write(tmp_path / "p.json", json.dumps([row(8, 1)])[:-1] + ", oh dear" + " " * 100_000)
    with pytest.raises(ValueError, match="It has 'oh dear"):
        read_proposals(path, annotations)


def test_a_part_inside_is_enough(tmp_path: Path, annotations: Path) -> None:
    path = write(tmp_path / "p.json", [row(4, 1, x=-5.4), row(4, 0.5, x=63.9)])
    assert read_proposals(path, annotations).boxes[:, 0].tolist() == [np.float32(-5.4), np.float32(63.9)]


@pytest.mark.parametrize("limit", [0, -1, 2.0, True])
def test_limit_is_checked(limit: Any, tmp_path: Path, annotations: Path) -> None:
    with pytest.raises(ValueError, match="`max_per_image` of read_proposals must be an int of at least 1"):
        read_proposals(write(tmp_path / "p.json", []), annotations, max_per_image=limit)


def test_missing_files_are_named(tmp_path: Path, annotations: Path) -> None:
    with pytest.raises(FileNotFoundError, match="proposal file .*nowhere.json does not exist"):
        read_proposals(tmp_path / "nowhere.json", annotations)
    with pytest.raises(FileNotFoundError, match="annotation file .*nowhere.json does not exist"):
        read_ground_truth(tmp_path / "nowhere.json")


def truth(bbox: list[float], image_id: int = 4, **more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image_id, "category_id": 1, "bbox": bbox, "area": 9.0, "iscrowd": 0, **more}


KEPT = [
    ("a box", truth([1, 2, 3, 4]), True),
    ("without an area", {k: v for k, v in truth([1, 2, 3, 4]).items() if k != "area"}, True),
    ("sticking out", truth([60, 2, 30, 4]), True),
    ("one pixel", truth([1, 2, 1, 1]), True),
    ("a crowd", truth([1, 2, 3, 4], iscrowd=1), False),
    ("ignored", truth([1, 2, 3, 4], ignore=1), False),
    ("no area", truth([1, 2, 3, 4], area=0), False),
    ("below a pixel", truth([1, 2, 3, 0.5]), False),
    ("no height", truth([1, 2, 3, 0]), False),
    ("outside", truth([64, 2, 30, 4]), False),
]


@pytest.mark.parametrize(("annotation", "kept"), [case[1:] for case in KEPT], ids=[case[0] for case in KEPT])
def test_ground_truth(annotation: dict[str, Any], kept: bool, tmp_path: Path) -> None:
    other = truth([5, 5, 6, 7], image_id=8)
    found = read_ground_truth(write_annotations(tmp_path / "a.json", [other, annotation]))
    x, y, width, height = annotation["bbox"]
    assert found.boxes_of(1).tolist() == ([[x, y, x + width, y + height]] if kept else [])
    assert found.boxes_of(3).tolist() == [[5, 5, 11, 12]]
    assert (found.scores == 1).all() and len(found.scores) == 1 + kept


def test_lvis_names_files_by_their_url(tmp_path: Path) -> None:
    image = {"id": 1, "coco_url": "http://images.cocodataset.org/train2017/000000000001.jpg", "width": 9, "height": 9}
    path = write(tmp_path / "a.json", {"images": [image], "annotations": []})
    assert read_ground_truth(path).files == ("train2017/000000000001.jpg",)
    (listed,) = module.list_images(path)
    assert listed == {"id": 1, "file": "train2017/000000000001.jpg", "width": 9, "height": 9}


BAD_ANNOTATIONS = [
    ("cut short", '{"images": [', "must be COCO's JSON. .* cut short"),
    ("no annotations", {"images": [1]}, "Got no annotations"),
    ("a list", [], "Got no images, annotations"),
    ("no image", {"images": [], "annotations": []}, "at least one image"),
    ("no size", {"images": [{"id": 1, "file_name": "a", "width": 3}], "annotations": []}, "lacks height"),
    ("no file", {"images": [{"id": 1, "width": 3, "height": 3}], "annotations": []}, "lacks file_name"),
    (
        "an id twice",
        {"images": [{"id": 1, "file_name": "a", "width": 3, "height": 3}] * 2, "annotations": []},
        "repeats",
    ),
    (
        "no such image",
        {"images": [{"id": 1, "file_name": "a", "width": 3, "height": 3}], "annotations": [truth([1, 1, 1, 1], 5)]},
        "an `image_id` among its images",
    ),
]


@pytest.mark.parametrize(("content", "message"), [c[1:] for c in BAD_ANNOTATIONS], ids=[c[0] for c in BAD_ANNOTATIONS])
def test_refused_annotations(content: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", content)
    with pytest.raises(ValueError, match=message):
        read_ground_truth(path)
