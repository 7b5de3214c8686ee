from pathlib import Path

import pytest
from mmengine.config import ConfigDict

from subpt_dense.datasets import IMAGE_SETS, ClassSplit, base_to_novel, get_split, resolve_names
from subpt_dense.losses import TextAnchor
from tests.datasets.image_files import IMAGENET_NAMES, NAMES, write_folders, write_set


@pytest.mark.parametrize(("count", "base"), [(2, 1), (3, 2), (4, 2), (47, 24), (101, 51), (1000, 500)])
def test_the_first_half_rounded_up_is_base(count: int, base: int) -> None:
    names = [f"thing {i}" for i in range(count)]
    split = base_to_novel(names, "things")
    assert split.name == "things-base2novel" and split.all == tuple(names) and len(split.base) == base


def test_a_split_decides_instead_and_may_leave_names_out() -> None:
    split = base_to_novel(["a", "b", "c"], "x", {"name": "mine", "base": ["c"], "novel": ["a"]})
    assert split == ClassSplit("mine", ("c",), ("a",))
    with pytest.raises(
        ValueError, match="Split 'mine' must hold class names of x only. Got 'd', .* does not have: 'b'"
    ):
        base_to_novel(["a", "b"], "x", {"name": "mine", "base": ["a"], "novel": ["d"]})
    with pytest.raises(ValueError, match="group 'novel' of split 'x-base2novel' must hold at least one"):
        base_to_novel(["a"], "x")


@pytest.mark.parametrize("key", IMAGE_SETS)
def test_a_set_on_disk_is_a_split(tmp_path: Path, key: str) -> None:
    write_set(tmp_path, key)
    split = get_split(ConfigDict(set=key, data_root=str(tmp_path)))
    names = NAMES if not key.startswith("imagenet") else IMAGENET_NAMES
    names = names[1:] if key in ("imagenet_a", "imagenet_r") else names
    assert split.name == f"{key}-base2novel" and split.all == names
    assert len(split.base) == (len(names) + 1) // 2


def test_plain_folders_are_a_split(tmp_path: Path) -> None:
    write_folders(tmp_path, {"in": {"b": 1, "a": 1}, "out": {"c_d": 1}})
    spec = {"set": "folder", "data_root": str(tmp_path), "folders": {"train": "in", "test": "out"}}
    assert get_split(spec).all == ("a", "b", "c d") and get_split(spec).base == ("a", "b")
    split = {"name": "mine", "base": ["c d"], "novel": ["a"]}
    assert get_split(spec | {"split": split}).base == ("c d",)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="may hold data_root, folders, set, split. Got part"):
        get_split({"set": "dtd", "part": "train"})
    with pytest.raises(ValueError, match="`set` must be one of .* Got 'coco'"):
        get_split({"set": "coco"})
    with pytest.raises(FileNotFoundError, match="split_zhou_DescribableTextures.json does not exist"):
        get_split({"set": "dtd", "data_root": str(tmp_path)})


class TestAnchors:
    @pytest.fixture
    def spec(self, tmp_path: Path) -> dict[str, str]:
        write_set(tmp_path, "dtd")
        return {"set": "dtd", "data_root": str(tmp_path)}

    def test_generic_names_leave_the_sets_own_out(self, spec: dict[str, str]) -> None:
        everything = resolve_names({"vocabulary": "imagenet"})
        names = resolve_names({"vocabulary": "imagenet", "exclude": spec})
        gone = set(everything) - set(names)
        assert {"ant", "Persian cat", "Egyptian Mau"} & set(everything) and {"ant", "Persian cat"} & gone
        anchor = TextAnchor(names={"vocabulary": "imagenet", "exclude": spec, "limit": 5}, templates="single")
        assert anchor.kind == "generic" and anchor.summary()["excluded"] == "dtd"

    def test_heldout_names_are_the_novel_ones(self, spec: dict[str, str]) -> None:
        anchor = TextAnchor(names={"split": spec, "group": "novel"}, templates="single")
        assert anchor.names == NAMES[3:] and anchor.kind == "heldout"

    @pytest.mark.parametrize(
        ("exclude", "said"),
        [
            ("coco_ovd", "coco_ovd"),
            (["zebra"], "1 listed"),
            ({"name": "mine", "base": ["zebra"], "novel": ["fly"]}, "mine"),
            (ClassSplit("own", ("zebra",), ("fly",)), "own"),
        ],
    )
    def test_results_say_what_was_excluded(self, exclude: object, said: str) -> None:
        names = {"vocabulary": "imagenet", "exclude": exclude, "limit": 3}
        assert TextAnchor(names=names, templates="single").summary()["excluded"] == said
