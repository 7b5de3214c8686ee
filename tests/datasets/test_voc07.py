import json
import logging
from pathlib import Path

import pytest

from subpt_dense.datasets import write_voc07
from tests.tools.load_tool import load_tool

# (name, xmin, ymin, xmax, ymax, difficult) of each object, by image; the second image is empty.
SHOWN = {
    "000001": [("dog", 48, 240, 195, 371, 0), ("tvmonitor", 8, 12, 352, 498, 1)],
    "000002": [],
    "000004": [("aeroplane", 1, 1, 10, 5, 0)],
}


def xml(objects: list[tuple]) -> str:
    """As VOC's, with a part whose box is not an object's, and coordinates that are not all whole numbers."""
    made = [
        f"<object><name>{name}</name><pose>Left</pose><difficult>{difficult}</difficult><bndbox><ymax>{y2}</ymax>"
        f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
        "</object>"
        for name, x1, y1, x2, y2, difficult in objects
    ]
    size = "<size><width>353</width><height>500</height><depth>3</depth></size>"
    return f"<annotation><filename>x.jpg</filename>{size}{''.join(made)}</annotation>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/test.txt").write_text("\n".join(SHOWN) + "\n")
    (tmp_path / "Annotations").mkdir()
    for name, objects in SHOWN.items():
        (tmp_path / "Annotations" / f"{name}.xml").write_text(xml(objects))
    return tmp_path


def test_boxes_cover_the_pixels_that_voc_counts_from_one(root: Path) -> None:
    assert write_voc07(root) == {"voc07_test.json": {"images": 3, "annotations": 3, "categories": 20}}
    content = json.loads((root / "voc07_test.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert [
        (names[one["category_id"]], one["image_id"], one["bbox"], one["iscrowd"]) for one in content["annotations"]
    ] == [
        ("dog", 1, [47, 239, 148, 132], 0),
        ("tv monitor", 1, [7, 11, 345, 487], 1),
        ("aeroplane", 3, [0, 0, 10, 5], 0),
    ]
    assert content["annotations"][0]["area"] == 148 * 132
    assert content["images"][1] == {"id": 2, "file_name": "000002.jpg", "width": 353, "height": 500}
    assert [one["id"] for one in content["annotations"]] == [1, 2, 3]


def test_counts_that_differ_from_the_published_are_warned_of(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        write_voc07(root)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "3 images and 3 objects, but the published set has 4952 and 14976" in warning


@pytest.mark.parametrize("lost", ["ImageSets/Main/test.txt", "Annotations/000002.xml"])
def test_a_missing_file_is_named(root: Path, lost: str) -> None:
    (root / lost).unlink()
    with pytest.raises(FileNotFoundError, match=Path(lost).name):
        write_voc07(root)
    assert not (root / "voc07_test.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "no element found"),
        (xml([("unicorn", 1, 1, 2, 2, 0)]), "an object is called 'unicorn', which is none of VOC's 20"),
        (xml([("dog", 1, 1, "", 2, 0)]), "object has no bndbox/xmax"),
        (xml([("dog", 1, 1, "wide", 2, 0)]), "could not convert"),
        ("<annotation><size/></annotation>", "annotation has no size/width"),
    ],
)
def test_a_file_that_is_not_vocs_is_named(root: Path, text: str, message: str) -> None:
    (root / "Annotations/000004.xml").write_text(text)
    with pytest.raises(ValueError, match=f"000004.xml must be an annotation file of VOC 2007. Got: .*{message}"):
        write_voc07(root)


def test_the_command_writes_the_file_or_says_what_is_missing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_tool("prepare_data").main(["voc07", "--root", str(root)])
    assert (root / "voc07_test.json").is_file()
    with pytest.raises(SystemExit) as caught:
        load_tool("prepare_data").main(["voc07", "--root", str(root / "none")])
    assert caught.value.code == 1 and "VOCtest_06-Nov-2007.tar" in capsys.readouterr().err
