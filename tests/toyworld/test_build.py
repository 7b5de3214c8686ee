"""What lies on disk, read back by others' readers."""

import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from subpt_dense.datasets import get_split, resolve_names
from subpt_dense.toyworld import build
from subpt_dense.toyworld.build import build_world
from subpt_dense.toyworld.concepts import GROUNDS, all_concepts, class_split
from tests.toyworld.tiny_world import SIZES

BASE, NOVEL = ([concept.name for concept in group] for group in class_split(0))
NOTHING = {"train": 0, "val": 0, "train_crops": 0, "val_crops": 0, "clip_seeds": ()}


@pytest.fixture(scope="module", params=["train_seen", "val_all"])
def part(request, world):
    """(folder of pictures, its semantic maps, pycocotools on its annotations, classes it may show)"""
    folder = request.param.split("_")[0]
    coco = COCO(str(world / "annotations" / f"instances_{request.param}.json"))
    return world / folder, world / "semantic" / folder, coco, BASE if folder == "train" else [*BASE, *NOVEL]


def test_annotations(part):
    pictures, _, coco, names = part
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == names
    assert [category["id"] for category in coco.dataset["categories"]] == [*range(1, len(names) + 1)]
    assert len(coco.imgs) == SIZES[pictures.name]
    for image in coco.imgs.values():
        pixels = cv2.imread(str(pictures / image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3) == (128, 128, 3)
        assert len(coco.getAnnIds(image["id"])) >= 1
    assert {path.name for path in pictures.iterdir()} == {image["file_name"] for image in coco.imgs.values()}


def test_boxes_are_tight_and_areas_right(part):
    _, _, coco, names = part
    for annotation in coco.anns.values():
        rows, columns = np.nonzero(coco.annToMask(annotation))
        x, y, w, h = annotation["bbox"]
        assert (x, y) == (columns.min(), rows.min()) and (w, h) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
        assert annotation["area"] == len(rows) and annotation["iscrowd"] == 0
        assert 1 <= annotation["category_id"] <= len(names)


def test_semantic_maps_agree_with_the_masks(part, world):
    pictures, semantic, coco, _ = part
    lines = (world / "semantic_classes.txt").read_text().splitlines()
    assert lines == [*BASE, *NOVEL, *GROUNDS]
    for image in coco.imgs.values():
        classes = cv2.imread(str(semantic / image["file_name"]), cv2.IMREAD_UNCHANGED)
        assert classes.shape == (128, 128) and classes.dtype == np.uint8
        covered = np.zeros_like(classes, dtype=bool)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            name = coco.cats[annotation["category_id"]]["name"]
            assert (classes[mask] == lines.index(name)).all()
            covered |= mask
        ground = np.unique(classes[~covered])
        assert len(ground) == 1 and lines[ground[0]] in GROUNDS


def test_pictures_are_written_in_bgr(world):
    """Red things must be red to a reader: crops of red and of blue classes, as OpenCV reads them."""
    mean = {"red": [], "blue": []}
    for folder in (world / "crops" / "val").iterdir():
        colour = folder.name.split("_")[0]
        if colour in mean:
            blue, _, red = cv2.imread(str(next(folder.iterdir())))[28:36, 28:36].reshape(-1, 3).mean(0)
            mean[colour].append(red - blue)
    assert np.mean(mean["red"]) > 30 and np.mean(mean["blue"]) < -30


def test_crops(world):
    for part, names in (("train", BASE), ("val", [*BASE, *NOVEL])):
        folders = sorted((world / "crops" / part).iterdir())
        assert [folder.name for folder in folders] == sorted(name.replace(" ", "_") for name in names)
        for folder in folders:
            assert [path.name for path in folder.iterdir()] == ["0001.png"]
    assert cv2.imread(str(world / "crops" / "val" / BASE[0].replace(" ", "_") / "0001.png")).shape == (64, 64, 3)


def test_name_lists(world):
    split = get_split(world / "split.json")
    assert split.base == tuple(BASE) and split.novel == tuple(NOVEL) and split.name == "toy"
    generic = resolve_names(str(world / "names_generic.txt"))
    assert len(generic) == 575 and not {*generic} & {*split.all}
    assert {*generic, *split.all} == {concept.name for concept in all_concepts()}
    # What the configs ask for: the exclusion by words must leave the list whole.
    spec = {"vocabulary": str(world / "names_generic.txt"), "exclude": str(world / "split.json")}
    assert resolve_names(spec) == generic
    assert len(resolve_names({**spec, "limit": 64})) == 64


def test_the_same_world_again_is_left_alone(world):
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    assert build_world(world, **SIZES) is False
    assert {path: path.stat().st_mtime_ns for path in world.rglob("*")} == before


def test_another_world_is_refused_naming_both(world):
    before = sorted(world.rglob("*"))
    both = r"same toy world \{.*'train': 7.*\}\. Got \{.*'train': 6.*Choose another folder"
    with pytest.raises(FileExistsError, match=both):
        build_world(world, **{**SIZES, "train": 7})
    assert sorted(world.rglob("*")) == before


def test_a_world_cut_short_is_made_again(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(build, "write_crops", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_world(tmp_path, **NOTHING)
    assert (tmp_path / "split.json").exists() and not (tmp_path / "world.json").exists()
    assert build_world(tmp_path, **NOTHING) is True
    assert json.loads((tmp_path / "world.json").read_text())["train"] == 0
    assert not [*tmp_path.rglob("*.partial")]


def test_same_arguments_same_files(tmp_path):
    sizes = {**NOTHING, "train": 2, "val": 1}
    for name, more in (("a", {}), ("b", {}), ("tint", {"domain": "tint"})):
        build_world(tmp_path / name, **sizes, **more)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*") if path.is_file())
    assert len(files) == 2 + 3 + 1 + 6
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)
    differing = [str(p) for p in files if (tmp_path / "a" / p).read_bytes() != (tmp_path / "tint" / p).read_bytes()]
    assert "train/000001.png" in differing and "split.json" not in differing
    a, b = ((tmp_path / "a" / folder / "000001.png").read_bytes() for folder in ("train", "val"))
    assert a != b


def test_a_picture_that_cannot_be_written(tmp_path):
    (tmp_path / "picture.png").mkdir()
    with pytest.raises(OSError, match=r"picture\.png could not be written\. Check"):
        build.write_png(tmp_path / "picture.png", np.zeros((4, 4, 3), np.uint8))


def test_command_line(tmp_path, monkeypatch):
    argv = f"build --root {tmp_path}/w --train 2 --val 1 --domain hue --split-seed 1".split()
    asked = {}
    monkeypatch.setattr(build, "build_world", lambda root, **kwargs: asked.update(root=root, **kwargs))
    monkeypatch.setattr("sys.argv", argv)
    build.main()
    assert asked == {"root": tmp_path / "w", "train": 2, "val": 1, "split_seed": 1, "domain": "hue"}
