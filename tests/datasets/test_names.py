from pathlib import Path

import pytest
from mmengine.config import ConfigDict

from subpt_dense.datasets import get_split, resolve_names
from subpt_dense.datasets.names import numbered_names, remove_names
from subpt_dense.text import generic_names


class TestRemoveNames:
    @pytest.mark.parametrize(
        ("evaluated", "gone"),
        [
            ("dog", ["dog", "Dog", "dogs", "hot dog", "prairie_dog", "dog-sled", "dogs of war", "toy dog, small"]),
            ("hot dog", ["hot dog", "hotdog", "hot-dogs", "chilli hot dog stand"]),
            ("cell phone", ["cellphone", "Cell Phones", "old cell phone"]),
            ("bus", ["school bus", "buses", "bus stop"]),
            ("knife", ["knives", "bread knife"]),
            ("person", ["people", "young person"]),
            ("mouse", ["computer mice", "mouse"]),
            ("skis", ["ski", "skis", "ski mask"]),
            ("scissors", ["scissor", "scissors"]),
            ("sandwich", ["club sandwiches"]),
            ("teddy bear", ["teddy bears"]),
            ("berry", ["berries", "goji berry"]),
            ("police man", ["policemen"]),
            ("café", ["CAFÉ", "street café"]),
            ("fig_(fruit)", ["fig", "figs", "ripe fig", "fig (fruit)"]),
            ("desk-stuff", ["desk", "desks", "writing desk", "desk-stuff", "desk stuff"]),
            ("Water-Other ", ["water", "water jug", "water other"]),
            ("wall-stone", ["stone wall", "old stone walls", "stonewall", "wall-stone", "wall stone"]),
            ("window-blind", ["window blinds", "blind window"]),
        ],
    )
    def test_equal_contained_plural_and_closed_up(self, evaluated: str, gone: list[str]) -> None:
        assert remove_names(gone, [evaluated]) == ()

    @pytest.mark.parametrize(
        ("evaluated", "kept"),
        [
            ("dog", ["bulldog", "dogma", "golden retriever"]),
            ("hot dog", ["dog", "hot pot", "dog hot"]),
            ("cat", ["cattle", "caterpillar", "lynx"]),
            ("tie", ["tier", "necktie"]),
            ("bus", ["bush", "minibus"]),
            ("glass", ["gla", "fibreglass"]),
            ("car", ["carpet", "scar", "cargo ship"]),
            ("fig_(fruit)", ["fruit", "figure"]),
            ("desk-stuff", ["stuff", "stuffing", "desktop computer"]),
            ("other-stuff", ["stuff", "mother"]),
            ("wall-stone", ["stone", "wall", "wallaby", "stone in a wall"]),
            ("stuff-box", ["box", "stuff"]),
        ],
    )
    def test_other_words_stay_in_order(self, evaluated: str, kept: list[str]) -> None:
        assert remove_names([*kept, evaluated], [evaluated]) == tuple(kept)


class TestImageNetWithoutCoco:
    names = resolve_names({"vocabulary": "imagenet", "exclude": "coco_ovd"})

    def test_no_word_of_an_evaluated_name_is_left(self) -> None:
        words = {word for name in self.names for word in name.lower().replace("-", " ").split()}
        single = {name for name in get_split("coco_ovd").all if " " not in name}
        assert words & single == set()
        assert not {"hot dog", "school bus", "Persian cat", "ski", "teddy bear"} & set(self.names)

    def test_the_rest_stays_in_order(self) -> None:
        every = generic_names("imagenet")
        assert 880 < len(self.names) < len(every)
        assert list(self.names) == [name for name in every if name in set(self.names)]
        assert {"goldfish", "Golden Retriever"} <= set(self.names)

    def test_a_novel_name_never_comes_back_through_any_seed(self) -> None:
        for seed in range(3):
            some = resolve_names({"vocabulary": "imagenet", "exclude": "coco_ovd", "limit": 50, "seed": seed})
            assert len(some) == 50 and set(some) < set(self.names)


def test_imagenet_without_coco_stuff_loses_what_its_qualifiers_hid() -> None:
    names = resolve_names({"vocabulary": "imagenet", "exclude": "coco_stuff_zss"})
    hidden = ["desk", "window screen", "window shade", "sliding door", "plant pot", "water tower", "stone wall"]
    assert set(hidden) <= set(generic_names("imagenet")) and not set(hidden) & set(names)
    assert "desktop computer" in names and len(names) > 800


class TestLimit:
    spec = {"vocabulary": "imagenet", "limit": 20}

    def test_is_a_fixed_draw_in_order(self) -> None:
        some = resolve_names(self.spec)
        assert some == resolve_names(dict(self.spec, seed=0)) != resolve_names(dict(self.spec, seed=1))
        every = generic_names("imagenet")
        positions = [every.index(name) for name in some]
        assert positions == sorted(positions) and positions[-1] > 500
        # Written down, so that a change of the draw is seen: sorted(random.Random(0).sample(range(998), 20))[:5]
        assert positions[:5] == [41, 265, 310, 366, 394]

    def test_above_the_number_of_names_keeps_all(self) -> None:
        assert resolve_names({"split": "coco_ovd", "limit": 99}) == get_split("coco_ovd").novel

    @pytest.mark.parametrize("limit", [0, -1, 2.5, True, "3"])
    def test_must_be_a_positive_integer(self, limit: object) -> None:
        with pytest.raises(ValueError, match="`limit` must be a positive integer or None"):
            resolve_names({"vocabulary": "imagenet", "limit": limit})


class TestSources:
    def test_a_list(self) -> None:
        assert resolve_names(["b", "a"]) == resolve_names(("b", "a")) == ("b", "a")
        with pytest.raises(ValueError, match="of an anchor must be distinct"):
            resolve_names(["a", "A"])

    def test_a_text_file(self, tmp_path: Path) -> None:
        path = tmp_path / "names.txt"
        path.write_text("\ufeffred star\n\n# a comment\n  blue dot \n", encoding="utf-8")
        assert resolve_names(str(path)) == resolve_names(path) == ("red star", "blue dot")
        path.write_text("red star\nred_star\n")
        with pytest.raises(ValueError, match="names.txt must be distinct"):
            resolve_names(path)
        assert resolve_names({"vocabulary": str(path)}) == ("red star",)  # a generic vocabulary may repeat itself

    def test_a_numbered_file_skips_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "names.txt"
        path.write_text("\ufeffred star\n  blue dot \n\n", encoding="utf-8")
        assert numbered_names(path) == numbered_names(["red star", "blue dot"]) == ("red star", "blue dot")
        for line in ("", "  ", "# a comment"):
            path.write_text(f"red star\n{line}\nblue dot\n")
            with pytest.raises(ValueError, match=f"names.txt must be a class name, .* Got '{line}' in line 2"):
                numbered_names(path)
        path.write_text("")
        with pytest.raises(ValueError, match="at least one class name"):
            numbered_names(path)

    def test_a_vocabulary_file_without_a_list_or_a_split_file(self, tmp_path: Path) -> None:
        (tmp_path / "nouns.txt").write_text("red star\ngreen dots\nblue dot\nwheel\n")
        (tmp_path / "split.json").write_text('{"name": "s", "base": ["red star"], "novel": ["dot"]}')
        spec = {"vocabulary": str(tmp_path / "nouns.txt")}
        assert resolve_names(spec | {"exclude": str(tmp_path / "split.json")}) == ("wheel",)
        assert resolve_names(spec | {"exclude": ["wheel"]}) == ("red star", "green dots", "blue dot")
        assert resolve_names(spec | {"exclude": None}) == ("red star", "green dots", "blue dot", "wheel")

    @pytest.mark.parametrize("group", ["base", "novel", "all"])
    def test_a_split(self, group: str) -> None:
        assert resolve_names(ConfigDict(split="coco_ovd", group=group)) == get_split("coco_ovd").group(group)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"vocabulary": "imagenet", "exclude": "coco"}, "`split` must be one of 'coco_ovd'.* Got 'coco'"),
        ({"vocabulary": "wordnet"}, "`vocabulary` must be one of 'imagenet'. Got 'wordnet'"),
        ({"vocabulary": "imagenet", "group": "novel"}, "may hold exclude, limit, seed, vocabulary. Got group as well"),
        ({"vocabulary": "imagenet", "split": "coco_ovd"}, "either `vocabulary` or `split`. Got the keys"),
        ({"exclude": "coco_ovd"}, r"either `vocabulary` or `split`. Got the keys \['exclude'\]"),
        ({"split": "coco_ovd", "group": "seen"}, "`group` of split 'coco_ovd' must be one of"),
        ({"vocabulary": "imagenet", "exclude": 3}, "`exclude` must be a split name, .* Got 3"),
        ("imagenet", r"`names` given as a string must be a path to a \.txt file .* Got 'imagenet'"),
        (7, r"`names` must be a list of names, a \.txt path or a dict. Got int 7"),
        ([], "at least one class name"),
    ],
)
def test_errors_say_what_is_allowed(spec: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_names(spec)


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "pets.txt"
    path.write_text("dogs\nPersian cat\n")
    with pytest.raises(ValueError, match=r"at least one of the 2 names of .*pets.txt'. Got none left: .* 'coco_ovd'"):
        resolve_names({"vocabulary": str(path), "exclude": "coco_ovd"})
    with pytest.raises(FileNotFoundError, match="`vocabulary` names the file .*no.txt, which does not exist"):
        resolve_names({"vocabulary": str(tmp_path / "no.txt")})
