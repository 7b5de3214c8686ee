import hashlib
import json
from pathlib import Path

import pytest

from subpt_dense.datasets import IMAGE_SETS, file_sha256, get_image_set, list_sha256, read_images, read_names
from tests.datasets.image_files import IMAGENET_NAMES, NAMES, SIZES, split_content, write_folders, write_set

PARTS = [(key, part) for key, info in IMAGE_SETS.items() for part in info.parts]


def expected_names(key: str) -> tuple[str, ...]:
    if not key.startswith("imagenet"):
        return NAMES
    return IMAGENET_NAMES[1:] if get_image_set(key).some_of_imagenet else IMAGENET_NAMES


@pytest.mark.parametrize(("key", "part"), PARTS)
def test_every_set_is_read_in_its_own_layout(tmp_path: Path, key: str, part: str) -> None:
    write_set(tmp_path, key)
    listed = read_images(key, tmp_path, part)
    names = expected_names(key)
    assert listed.names == names == read_names(key, tmp_path)
    assert listed.name == key and listed.part == part and len(listed) == len(names) * SIZES[part]
    assert listed.counts() == dict.fromkeys(names, SIZES[part])
    assert {(label, name) for _, label, name in listed.images} == set(enumerate(names))
    assert all((listed.root / path).is_file() and not Path(path).is_absolute() for path, _, _ in listed.images)
    listed.check_sample()


def test_an_image_goes_with_its_own_class(tmp_path: Path) -> None:
    """Written out by hand for each layout: a path and the label and name it must have."""
    for key in ("dtd", "fgvc_aircraft", "imagenet", "imagenetv2", "imagenet_a"):
        write_set(tmp_path, key)
    cases = [
        ("dtd", "test", ("class_3/test_1.jpg", 3, "moth/butterfly")),
        ("dtd", "val", ("class_0/val_4.jpg", 0, "zebra crossing")),
        ("fgvc_aircraft", "train", ("0000003.jpg", 2, "Boeing 707")),
        ("fgvc_aircraft", "val", ("0000031.jpg", 0, "zebra crossing")),
        ("imagenet", "test", ("val/n03773504/n03773504_2.JPEG", 2, "missile")),
        ("imagenet", "train", ("train/n04008634/n04008634_5.JPEG", 3, "projectile")),
        ("imagenetv2", "test", ("1/1_0.JPEG", 1, "goldfish")),
        ("imagenet_a", "test", ("n01443537/n01443537_0.JPEG", 0, "goldfish")),
    ]
    for key, part, entry in cases:
        assert entry in read_images(key, tmp_path, part).images


def test_v2_labels_are_positions_in_classnames_not_folder_order(tmp_path: Path) -> None:
    folder = tmp_path / "imagenetv2"
    write_folders(folder, {"imagenetv2-matched-frequency-format-val": {str(i): 1 for i in range(12)}})
    (folder / "classnames.txt").write_text("".join(f"n{i:08d} thing{i}\n" for i in range(12)))
    listed = read_images("imagenetv2", tmp_path, "test")
    assert [(label, name) for _, label, name in listed.images] == [(i, f"thing{i}") for i in range(12)]
    assert listed.images[10][0] == "10/00.png"


def test_order_is_the_files_own_and_hashes_tell_content(tmp_path: Path) -> None:
    write_set(tmp_path, "eurosat")
    path = tmp_path / "eurosat" / "split_zhou_EuroSAT.json"
    listed = read_images("eurosat", tmp_path, "test")
    assert [entry[0] for entry in listed.images] == [row[0] for row in split_content()["test"]]
    assert listed.source == path and listed.source_sha256 == file_sha256(path)
    lines = sorted(f"{p}\t{n}\n" for p, _, n in listed.images)
    assert list_sha256(reversed(listed.images)) == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert list_sha256(listed.images[1:]) != list_sha256(listed.images)


def test_names_are_cleaned_and_known_twins_told_apart(tmp_path: Path) -> None:
    write_set(tmp_path, "imagenet")
    file = tmp_path / "imagenet" / "classnames.txt"
    assert read_names("imagenet", tmp_path)[2:] == ("missile", "projectile")
    file.write_text("n01440764 tench\nn04355933 sunglasses\nn04356056 sunglasses\n")
    assert read_names("imagenet", tmp_path) == ("tench", "sunglass", "sunglasses")
    file.write_text("n01440764 tench\nn04008634 own_word\n\n")
    assert read_names("imagenet", tmp_path) == ("tench", "own word")
    file.write_text("n01440764 tench\nn01443537 Tench\n")
    with pytest.raises(ValueError, match="classnames.txt must be distinct.*'tench' = 'Tench'"):
        read_names("imagenet", tmp_path)


class TestFolders:
    def test_labels_follow_the_folders_of_all_parts(self, tmp_path: Path) -> None:
        write_folders(tmp_path, {"train": {"b_c": 2, "d": 1}, "test": {"a": 1, "b_c": 3, "d": 1}})
        (tmp_path / "test" / "a" / "notes.txt").touch()
        (tmp_path / "test" / "a" / ".hidden.png").touch()
        (tmp_path / "test" / ".cache").mkdir()
        train, test = (read_images("folder", tmp_path, part) for part in ("train", "test"))
        assert train.names == test.names == ("a", "b c", "d") == read_names("folder", tmp_path)
        assert train.images == (
            ("train/b_c/00.png", 1, "b c"), ("train/b_c/01.png", 1, "b c"), ("train/d/00.png", 2, "d"),
        )  # fmt: skip
        assert test.counts() == {"a": 1, "b c": 3, "d": 1} and train.counts()["a"] == 0
        assert train.name == tmp_path.name and train.source == tmp_path / "train"

    def test_parts_may_lie_anywhere(self, tmp_path: Path) -> None:
        write_folders(tmp_path, {"crops/train": {"a": 2}, "crops/val": {"a": 1, "b": 1}})
        folders = {"train": "crops/train", "test": "crops/val"}
        assert read_images("folder", tmp_path, "test", folders).images[1][0] == "crops/val/b/00.png"
        with pytest.raises(ValueError, match="`part` of the folder .* must be one of 'train', 'test'. Got 'val'"):
            read_images("folder", tmp_path, "val", folders)
        with pytest.raises(ValueError, match="must hold a folder train, val or test. Got none"):
            read_images("folder", tmp_path, "train")

    @pytest.mark.parametrize(
        ("folders", "message"),
        [
            ({"trian": "train"}, "`folders` must name parts among train, val, test. Got trian"),
            ("train", "`folders` must be a dict of part and folder. Got 'train'"),
            ({}, "`folders` must name parts among train, val, test. Got none"),
        ],
    )
    def test_other_parts_are_refused(self, tmp_path: Path, folders: dict[str, str], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            read_images("folder", tmp_path, "train", folders)

    def test_bad_folders_are_named(self, tmp_path: Path) -> None:
        write_folders(tmp_path, {"train": {"red_star": 1, "Red star": 1}})
        with pytest.raises(ValueError, match="must have distinct names. Got 'Red star' = 'red_star'"):
            read_images("folder", tmp_path, "train")
        write_folders(tmp_path / "x", {"train": {"a": 0}})
        with pytest.raises(ValueError, match="'train' of x, listed in .*x/train, must hold images. Got none"):
            read_images("folder", tmp_path / "x", "train")
        (tmp_path / "y" / "train").mkdir(parents=True)
        (tmp_path / "y" / "train" / "1.png").touch()
        with pytest.raises(ValueError, match="y/train must hold one folder a class. Got 1 files and no folder"):
            read_images("folder", tmp_path / "y", "train")
        with pytest.raises(FileNotFoundError, match="The folder .*y/val does not exist"):
            read_images("folder", tmp_path / "y", "val", {"val": "val"})


def put(part: str, position: int, value: object):
    def change(content: dict) -> dict:
        content[part][position] = value
        return content

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: [], "must hold the keys train, val, test and no other. Got list"),
        (lambda c: {"train": c["train"], "test": c["test"]}, "no other. Got test, train"),
        (lambda c: c | {"extra": []}, "no other. Got extra, test, train, val"),
        (lambda c: c | {"val": {}}, "`val` of split file .*json must be a list of .* Got dict"),
        (put("val", 2, ["a.jpg", 1]), r"Entry 2 of `val` of split file .*json must be .* Got \['a.jpg', 1\]"),
        (put("val", 2, ["a.jpg", "1", "ant"]), r"Entry 2 of `val` .* Got \['a.jpg', '1', 'ant'\]"),
        (put("test", 0, ["a.jpg", True, "ant"]), "Entry 0 of `test`"),
        (put("test", 0, ["a.jpg", -1, "ant"]), "Entry 0 of `test`"),
        (put("test", 0, ["", 1, "ant"]), "Entry 0 of `test`"),
        (put("test", 0, ["a.jpg", 1, " _"]), "Entry 0 of `test`"),
        (
            put("train", 4, ["a.jpg", 4, "dog"]),
            "Label 4 of split file .* must have one name. Got 'dog' for a.jpg and 'cat' for class_4",
        ),
        (put("train", 4, ["a.jpg", 7, "dog"]), "must run from 0 without a hole. Got no image of label 5, 6"),
        (put("train", 4, ["a.jpg", 5, "CAT"]), "must be distinct.*'cat' = 'CAT'"),
        (lambda c: {"train": [], "val": [], "test": []}, "without a hole. Got no entries"),
        (lambda c: c | {"train": []}, "The part 'train' of sun397, listed in .*json, must hold images. Got none"),
    ],
)
def test_a_malformed_split_file_is_named_with_the_entry(tmp_path: Path, change, message: str) -> None:
    folder = tmp_path / "sun397"
    folder.mkdir()
    (folder / "split_zhou_SUN397.json").write_text(json.dumps(change(split_content())))
    with pytest.raises(ValueError, match=message):
        read_images("sun397", tmp_path, "train")


def test_missing_and_broken_lists(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Split file .*split_zhou_SUN397.json does not exist"):
        read_images("sun397", tmp_path, "train")
    (tmp_path / "sun397").mkdir()
    (tmp_path / "sun397" / "split_zhou_SUN397.json").write_text("{'train'")
    with pytest.raises(ValueError, match="Split file .*split_zhou_SUN397.json must be JSON in UTF-8. Got"):
        read_images("sun397", tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="variants.txt does not exist"):
        read_names("fgvc_aircraft", tmp_path)


def test_lines_of_the_text_lists_are_named(tmp_path: Path) -> None:
    write_set(tmp_path, "fgvc_aircraft")
    lines = tmp_path / "fgvc_aircraft" / "images_variant_val.txt"
    lines.write_text("0000001 ant\n0000002 Boeing 747\n")
    with pytest.raises(
        ValueError, match=r"Line 2 of .*val.txt must be .* one of the 5 names .* Got '0000002 Boeing 747'"
    ):
        read_images("fgvc_aircraft", tmp_path, "val")
    write_set(tmp_path, "imagenet")
    names = tmp_path / "imagenet" / "classnames.txt"
    for text, message in (("n01 tench\nn02\n", "Line 2 of .*Got no name: 'n02'"), ("n01 a\nn01 b", "an earlier line")):
        names.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_names("imagenet", tmp_path)


def test_class_folders_must_fit_the_class_names(tmp_path: Path) -> None:
    for key in ("imagenet", "imagenet_r"):
        write_set(tmp_path, key)
    (tmp_path / "imagenet" / "images" / "val" / "n09999999").mkdir()
    with pytest.raises(ValueError, match="Each folder in .*images/val must be a class of .*txt. Got n09999999"):
        read_images("imagenet", tmp_path, "test")
    (tmp_path / "imagenet" / "images" / "val" / "n09999999").rmdir()
    names = tmp_path / "imagenet" / "classnames.txt"
    names.write_text(names.read_text() + "n05 new\n")
    with pytest.raises(ValueError, match="must hold a folder for each of the 5 classes of .*txt. Missing: n05"):
        read_images("imagenet", tmp_path, "train")
    assert len(read_names("imagenet_r", tmp_path)) == 3
    (tmp_path / "imagenet-rendition" / "imagenet-r" / "n09999999").mkdir()
    with pytest.raises(ValueError, match="imagenet-r must be a class of .*classnames.txt. Got n09999999"):
        read_names("imagenet_r", tmp_path)


def test_parts_and_arguments_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`part` of set 'imagenet_a' must be one of 'test'. Got 'train'"):
        read_images("imagenet_a", tmp_path, "train")
    with pytest.raises(ValueError, match="`folders` is for plain image folders, set='folder'. Got it with set='dtd'"):
        read_images("dtd", tmp_path, "train", {"train": "train"})


def test_images_unpacked_elsewhere_are_noticed(tmp_path: Path) -> None:
    write_set(tmp_path, "dtd")
    listed = read_images("dtd", tmp_path, "train")
    (tmp_path / "dtd" / "images" / "class_4" / "train_1.jpg").unlink()
    listed.check_sample()
    (tmp_path / "dtd" / "images" / "class_4" / "train_0.jpg").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"The images of dtd \(train\).* must exist. Of .* its 5 classes 1 do not, such as .*class_4/train_0",
    ):
        listed.check_sample()
