import json
from pathlib import Path

import pytest

from subpt_dense.datasets import ClassSplit, get_split
from subpt_dense.datasets.splits import is_built_in

# The ids as published; the names as COCO's official file has them.
BASE_IDS = """1 2 3 4 7 8 9 15 16 19 20 23 24 25 27 31 33 34 35 38 42 44 48 50 51 52 53 54 55 56 57 59 60 62 65 70 72 73
74 75 78 79 80 82 84 85 86 90"""
NOVEL = {
    5: "airplane", 6: "bus", 17: "cat", 18: "dog", 21: "cow", 22: "elephant", 28: "umbrella", 32: "tie",
    36: "snowboard", 41: "skateboard", 47: "cup", 49: "knife", 61: "cake", 63: "couch", 76: "keyboard", 81: "sink",
    87: "scissors",
}  # fmt: skip
IGNORED = [10, 11, 13, 14, 37, 39, 40, 43, 46, 58, 64, 67, 77, 88, 89]
# COCO's 80 names in id order; ten ids up to 90 are unused.
COCO = """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,
parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,
handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,
surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,
broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,laptop,
mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,
teddy bear,hair drier,toothbrush"""
UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


class TestCocoOVD:
    split = get_split("coco_ovd")

    def test_has_the_published_ids_in_ascending_order(self) -> None:
        assert (len(self.split.base), len(self.split.novel), len(self.split.all)) == (48, 17, 65)
        assert list(self.split.ids) == [int(i) for i in BASE_IDS.split()] + list(NOVEL)
        assert self.split.novel == tuple(NOVEL.values())

    def test_has_cocos_names(self) -> None:
        official = dict(
            zip((i for i in range(1, 91) if i not in UNUSED), COCO.replace("\n", "").split(","), strict=True)
        )
        assert self.split.all == tuple(official[i] for i in self.split.ids)
        assert set(official) - set(self.split.ids) == set(IGNORED)

    def test_groups(self) -> None:
        assert self.split.group("base") == self.split.base
        assert self.split.group("all") == self.split.base + self.split.novel
        with pytest.raises(ValueError, match="`group` of split 'coco_ovd' must be one of .* Got 'seen'"):
            self.split.group("seen")


class TestLVIS:
    split = get_split("lvis_v1")

    def test_has_rare_classes_as_novel_with_ids_ascending_in_each_group(self) -> None:
        assert (len(self.split.base), len(self.split.novel)) == (866, 337)
        assert self.split.ids == (*sorted(self.split.ids[:866]), *sorted(self.split.ids[866:]))
        assert set(self.split.ids) == set(range(1, 1204))
        by_id = dict(zip(self.split.ids, self.split.all, strict=True))
        assert [by_id[i] for i in (1, 31, 793, 1203)] == ["aerosol_can", "baboon", "person", "zucchini"]
        assert {"baboon", "wolf", "violin", "applesauce"} <= set(self.split.novel)
        assert {"person", "tennis_racket", "bat_(animal)", "zucchini"} <= set(self.split.base)

    def test_is_made_once(self) -> None:
        assert get_split("lvis_v1") is self.split


class TestTransfer:
    @pytest.mark.parametrize(
        ("name", "count"), [("coco80", 80), ("voc07", 20), ("objects365_v1", 365), ("objects365_v2", 365)]
    )
    def test_sets_have_nobody_novel(self, name: str, count: int) -> None:
        split = get_split(name)
        assert len(split.all) == len(split.group("all")) == len(split.base) == count
        assert split.transfer and not split.novel
        with pytest.raises(ValueError, match=f"`group` of split '{name}' must be one of 'base', 'all'. Got 'novel'"):
            split.group("novel")

    def test_coco_has_its_own_ids_and_names(self) -> None:
        split = get_split("coco80")
        assert split.ids == tuple(i for i in range(1, 91) if i not in UNUSED)
        assert split.all == tuple(COCO.replace("\n", "").split(","))

    def test_a_set_of_ones_own_needs_no_groups(self) -> None:
        assert get_split({"name": "mine", "names": ["a", "b"]}) == ClassSplit("mine", ("a", "b"), (), transfer=True)
        divided = {"name": "mine", "base": [], "novel": ["a"], "transfer": True}
        assert get_split(divided).group("novel") == ("a",)


class TestFiles:
    @pytest.mark.parametrize("as_text", [True, False])
    def test_read(self, tmp_path: Path, as_text: bool) -> None:
        path = tmp_path / "mine.json"
        path.write_text(json.dumps({"name": "mine", "base": ["red star", "café"], "novel": ["dot"]}))
        split = get_split(str(path) if as_text else path)
        assert split == ClassSplit("mine", ("red star", "café"), ("dot",)) and split.ids == ()

    def test_a_mapping_and_a_split_do_as_well(self) -> None:
        split = get_split({"name": "mine", "base": ["a"], "novel": ["b"], "ids": [7, 3]})
        assert split.ids == (7, 3) and get_split(split) is split

    def test_the_file_must_exist(self, tmp_path: Path) -> None:
        with pytest.raises(
            FileNotFoundError, match=r"`split` names the file .*no.json, which does not exist.*coco_ovd"
        ):
            get_split(tmp_path / "no.json")

    @pytest.mark.parametrize("split", ["lvis", "data/mine.txt", 5, None])
    def test_unknown(self, split: object) -> None:
        with pytest.raises(
            ValueError, match=r"`split` must be one of 'coco_ovd', .*, or a path to a \.json file .* Got "
        ):
            get_split(split)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "Split file .*mine.json must be JSON in UTF-8"),
            ("[]", r"must hold `name`, `base`, `novel` .* Got list"),
            ('{"name": "a", "base": ["b"]}', r"Got \['base', 'name'\]"),
            ('{"name": "a", "base": ["b"], "novel": ["c"], "seen": 1}', "Got .*'seen'"),
            ('{"name": " ", "base": ["b"], "novel": ["c"]}', "`name` of the split .* Got ' '"),
            (
                '{"name": "a", "base": ["b", "B"], "novel": ["c"]}',
                "group 'base' of split 'a' must be distinct.*'b' = 'B'",
            ),
            ('{"name": "a", "base": ["b"], "novel": []}', "group 'novel' of split 'a' must hold at least one"),
            ('{"name": "a", "base": "b", "novel": ["c"]}', "group 'base' of split 'a' must be a list"),
            ('{"name": "a", "base": ["b_c"], "novel": ["b c"]}', "must share no name with `base`. Got 'b c' in both"),
            ('{"name": "a", "base": ["b"], "novel": ["c"], "ids": [1]}', "one id for each of the 2 names. Got 1"),
            ('{"name": "a", "base": ["b"], "novel": ["c"], "ids": ["1", 2]}', "must be a list of integers"),
            ('{"name": "a", "names": ["b"], "novel": ["c"]}', "`name`, `names` and at most `ids`. Got .*'novel'"),
            ('{"name": "a", "names": []}', "group 'base' of split 'a' must hold at least one"),
            ('{"name": "a", "base": [], "novel": [], "transfer": true}', "must hold at least one"),
            ('{"name": "a", "base": ["b"], "novel": [], "transfer": 1}', "`transfer` .* must be true or false. Got 1"),
        ],
    )
    def test_a_bad_one_says_why(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "mine.json"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            get_split(path)


def test_only_built_in_names_need_no_file() -> None:
    assert (
        is_built_in("coco_ovd")
        and is_built_in("lvis_v1")
        and not is_built_in("mine.json")
        and not is_built_in(["coco_ovd"])
    )
