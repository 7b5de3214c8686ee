import pytest
from mmseg.datasets import (
    ADE20KDataset,
    COCOStuffDataset,
    PascalContextDataset,
    PascalContextDataset59,
    PascalVOCDataset,
)

from subpt_dense.datasets import get_split
from subpt_dense.datasets.semantic_names import CONTEXT, ade20k, context459, first_free, semantic_names, synonyms
from subpt_dense.datasets.splits import is_built_in
from subpt_dense.datasets.zss_splits import zero_shot_names

# As published by SPNet (VOC, COCO-Stuff) and ZS3Net (Context): number in the label maps, and name.
VOC = {15: "potted plant", 16: "sheep", 17: "sofa", 18: "train", 19: "tv monitor"}
COCO_STUFF = {
    19: "cow", 23: "giraffe", 28: "suitcase", 29: "frisbee", 36: "skateboard", 51: "carrot", 76: "scissors",
    88: "cardboard", 94: "clouds", 112: "grass", 133: "playingfield", 136: "river", 137: "road", 157: "tree",
    160: "wall-concrete",
}  # fmt: skip
CONTEXT_UNSEEN = ["aeroplane", "bird", "boat", "cat", "cow", "fence", "keyboard", "motorbike", "sofa", "tv monitor"]
# The ids of the 59 among Pascal Context's 459, as mmseg's converter has them.
CONTEXT_IDS = [
    2, 259, 260, 415, 324, 9, 258, 144, 18, 19, 22, 23, 397, 25, 284, 158, 159, 416, 33, 162, 420, 454, 295, 296, 427,
    44, 45, 46, 308, 59, 440, 445, 31, 232, 65, 354, 424, 68, 326, 72, 458, 34, 207, 80, 355, 85, 347, 220, 349, 360,
    98, 187, 104, 105, 366, 189, 368, 113, 115,
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "unseen", "counts"),
    [
        ("voc_zss", VOC, (15, 5)),
        ("coco_stuff_zss", COCO_STUFF, (156, 15)),
        ("context_zss", dict(zip((0, 6, 7, 14, 19, 24, 31, 33, 48, 54), CONTEXT_UNSEEN, strict=True)), (49, 10)),
        ("context60_zss", dict(zip((1, 7, 8, 15, 20, 25, 32, 34, 49, 55), CONTEXT_UNSEEN, strict=True)), (50, 10)),
    ],
)
def test_a_split_is_the_published_one(name: str, unseen: dict[int, str], counts: tuple[int, int]) -> None:
    split = get_split(name)
    assert (len(split.base), len(split.novel)) == counts and is_built_in(name) and not split.transfer
    assert split.novel == tuple(unseen.values()) and split.ids[counts[0] :] == tuple(unseen)
    assert list(split.ids[: counts[0]]) == [i for i in range(sum(counts)) if i not in unseen]


def test_seen_numbers_have_the_hosts_names() -> None:
    for name, host, first in (
        ("coco_stuff_zss", COCOStuffDataset, 0),
        ("context_zss", PascalContextDataset59, 0),
        ("context60_zss", PascalContextDataset, 0),
        ("voc_zss", PascalVOCDataset, 1),  # the host counts the background
    ):
        split = get_split(name)
        theirs = host.METAINFO["classes"][first:]
        for number, ours in zip(split.ids, split.all, strict=True):
            assert ours.replace(" ", "") == theirs[number].replace(" ", ""), (name, number)
    assert "dining table" in get_split("voc_zss").base and "potted plant" in get_split("context_zss").base


@pytest.mark.parametrize(
    ("name", "count"), [("voc20", 20), ("pc59", 59), ("pc459", 459), ("ade150", 150), ("ade847", 847)]
)
def test_sets_for_transfer_have_nobody_unseen(name: str, count: int) -> None:
    split = get_split(name)
    assert split.transfer and not split.novel and split.ids == tuple(range(count))
    assert split.all == semantic_names(name)


class TestADE:
    def test_150_has_the_hosts_names(self) -> None:
        host = [name.strip() for name in ADE20KDataset.METAINFO["classes"]]
        differing = [
            (ours, theirs) for ours, theirs in zip(semantic_names("ade150"), host, strict=True) if ours != theirs
        ]
        assert differing == [("television", "television receiver")]

    def test_847_begins_and_ends_where_it_should(self) -> None:
        names = semantic_names("ade847")
        facts = {0: "wall", 11: "person", 94: "airplane", 259: "dog", 500: "cat", 662: "mouse", 846: "adding machine"}
        assert {i: names[i] for i in facts} == facts and len(ade20k("847")) == 847

    def test_nearly_all_of_the_150_are_among_the_847(self) -> None:
        words = {word for entry in ade20k("847") for word in entry}
        assert [entry[0] for entry in ade20k("150") if entry[0] not in words] == []

    def test_a_name_that_two_classes_share_goes_to_one_of_them(self) -> None:
        names, entries = semantic_names("ade847"), ade20k("847")
        assert len({name.casefold() for name in names}) == 847
        changed = {entry: name for entry, name in zip(entries, names, strict=True) if name != entry[0]}
        assert changed[("pot", "flowerpot")] == "flowerpot" and names[188] == "pot"
        assert changed[("bag", "handbag", "pocketbook", "purse")] == "handbag" and len(changed) < 15
        assert all(name in entry for entry, name in changed.items())

    def test_other_words_are_kept_not_encoded(self) -> None:
        assert synonyms("ade150")["sofa"] == ("couch", "lounge") and "wall" not in synonyms("ade150")
        assert synonyms("ade847")["flowerpot"] == ("pot",)
        assert synonyms("pc59") == {}


class TestFirstFree:
    def test_takes_the_next_word_of_the_class_that_has_more(self) -> None:
        assert first_free([["pot", "flowerpot"], ["pot"], ["fan"]]) == ("flowerpot", "pot", "fan")
        assert first_free([["a", "b"], ["a", "c"]]) == ("a", "c")
        assert first_free([["a", "b", "c"], ["a"], ["b"]]) == ("c", "a", "b")

    def test_needs_one(self) -> None:
        with pytest.raises(ValueError, match="Class 1 must have a word of its own. Got a, b, all of others"):
            first_free([["a"], ["a", "b"], ["b"]])


class TestContext:
    def test_59_are_the_published_ones_of_the_459(self) -> None:
        assert [context459()[i - 1] for i in sorted(CONTEXT_IDS)] == list(CONTEXT)

    def test_459_are_spelled_as_words(self) -> None:
        names = semantic_names("pc459")
        assert (names[0], names[2], names[307], names[426], names[458]) == (
            "accordion", "air conditioner", "potted plant", "tv monitor", "wool",
        )  # fmt: skip
        assert len({name.replace(" ", "") for name in names}) == 459


def test_an_unknown_set_is_refused() -> None:
    with pytest.raises(ValueError, match="`key` of semantic_names must be one of voc20, .* Got 'ade'"):
        semantic_names("ade")
    with pytest.raises(ValueError, match="`split` must be one of voc_zss, .* Got 'coco_ovd'"):
        zero_shot_names("coco_ovd")
