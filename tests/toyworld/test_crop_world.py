"""The crop world: folders by class, three parts that share no picture, one world a folder."""

import cv2
import pytest

from subpt_dense.datasets import get_split, resolve_names
from subpt_dense.toyworld import crop_world
from subpt_dense.toyworld.concepts import all_concepts, neighbour_split
from subpt_dense.toyworld.crop_world import build_crop_world

SIZES = {"train": 2, "val": 1, "test": 1, "clip_seeds": ()}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("crop_world")
    assert build_crop_world(root, **SIZES) is True
    return root


def pictures(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}


def test_folders_are_the_classes_of_the_part(world):
    base, novel = ([c.name.replace(" ", "_") for c in group] for group in neighbour_split(0))
    for part, classes, count in (("train", base, 2), ("val", base, 1), ("test", [*base, *novel], 1)):
        folders = list((world / "crops" / part).iterdir())
        assert sorted(folder.name for folder in folders) == sorted(classes)
        assert all(sorted(p.name for p in f.iterdir()) == [f"000{i + 1}.png" for i in range(count)] for f in folders)
    assert cv2.imread(str(next((world / "crops" / "test").rglob("*.png")))).shape == (64, 64, 3)


def test_no_two_pictures_are_the_same(world):
    found = pictures(world / "crops")
    assert len(found) == 48 * 3 + 65 and len(set(found.values())) == len(found)


def test_names(world):
    base, novel = neighbour_split(0)
    split = get_split(world / "split.json")
    assert split.base == tuple(c.name for c in base) and split.novel == tuple(c.name for c in novel)
    generic = resolve_names(str(world / "names_generic.txt"))
    assert len(generic) == 575 and {*generic, *split.all} == {c.name for c in all_concepts()}


def test_the_same_world_is_left_alone_and_another_refused(world):
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    assert build_crop_world(world, **SIZES) is False
    with pytest.raises(FileExistsError, match=r"'domain': 'hue'.*\. Got .*'domain': 'tint'.*Choose another folder"):
        build_crop_world(world, **SIZES, domain="hue")
    assert {path: path.stat().st_mtime_ns for path in world.rglob("*")} == before


def test_split_and_domain_change_the_pictures_and_nothing_else_does(tmp_path, world):
    sizes = {"train": 1, "val": 0, "test": 0, "clip_seeds": ()}
    for name, more in {"again": {}, "split": {"split_seed": 1}, "hue": {"domain": "hue"}}.items():
        build_crop_world(tmp_path / name, **sizes, **more)
    again, split, hue = (set(pictures(tmp_path / name).values()) for name in ("again", "split", "hue"))
    assert not again & split and not again & hue
    build_crop_world(tmp_path / "twice", **sizes)
    assert set(pictures(tmp_path / "twice").values()) == again


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domain": "sepia"}, r"`domain` of a crop world must be one of .*tint.*\. Got 'sepia'\."),
        ({"split_seed": -1}, r"`split_seed` of a crop world must be at least 0\. Got -1\."),
    ],
)
def test_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_crop_world(tmp_path / "w", **arguments)
    assert not (tmp_path / "w").exists()


def test_command_line(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(crop_world, "build_crop_world", lambda root, **kwargs: asked.update(root=root, **kwargs))
    monkeypatch.setattr("sys.argv", f"crop_world --root {tmp_path}/w --domain hue --split 2".split())
    crop_world.main()
    assert asked == {"root": tmp_path / "w", "domain": "hue", "split_seed": 2}
