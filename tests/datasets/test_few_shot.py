import json
import logging
from pathlib import Path

import pytest

from subpt_dense.datasets import ImageList, draw_few_shot, load_or_draw, read_images
from tests.datasets.image_files import NAMES, write_folders, write_set


def images(sizes: dict[str, int], part: str = "train", name: str = "toys") -> ImageList:
    entries = [(f"{n}/{i:02d}.png", label, n) for label, (n, size) in enumerate(sizes.items()) for i in range(size)]
    return ImageList(name, part, Path("."), tuple(entries), tuple(sizes), Path("list.json"), "ab" * 32)


SIZES = {"ant": 9, "bee": 7, "cat": 20}
GOLDEN = ["ant/08.png", "ant/07.png", "bee/06.png", "bee/01.png", "cat/15.png", "cat/00.png"]


class TestDraw:
    @pytest.mark.parametrize("shots", [1, 2, 4, 7])
    def test_gives_so_many_of_each_class_once_in_label_order(self, shots: int) -> None:
        listed = images(SIZES)
        drawn = draw_few_shot(listed, shots, 1)
        assert drawn.counts() == dict.fromkeys(SIZES, shots)
        assert len({path for path, _, _ in drawn.images}) == 3 * shots and set(drawn.images) <= set(listed.images)
        labels = [label for _, label, _ in drawn.images]
        assert labels == sorted(labels)

    def test_is_the_same_everywhere(self) -> None:
        """Written down: another Python, machine, or order of the list must give these."""
        drawn = draw_few_shot(images(SIZES), 2, 1)
        assert [path for path, _, _ in drawn.images] == GOLDEN
        shuffled = images(SIZES).only(reversed(images(SIZES).images))
        assert draw_few_shot(shuffled, 2, 1).images == drawn.images

    def test_follows_set_part_shots_and_seed(self) -> None:
        listed = images({"ant": 200})
        first = set(draw_few_shot(listed, 16, 1).images)
        others = [
            draw_few_shot(listed, 16, 2),
            draw_few_shot(images({"ant": 200}, name="x"), 16, 1),
            draw_few_shot(images({"ant": 200}, part="val"), 16, 1),
        ]
        assert all(len(first & set(other.images)) < 8 for other in others)
        assert set(draw_few_shot(listed, 8, 1).images) - first

    def test_every_image_is_drawn_about_equally_often(self) -> None:
        listed = images({"ant": 10})
        times = dict.fromkeys((path for path, _, _ in listed.images), 0)
        for seed in range(400):
            for path, _, _ in draw_few_shot(listed, 2, seed).images:
                times[path] += 1
        assert all(50 < count < 110 for count in times.values())  # 80 each, standard deviation 8

    def test_a_class_does_not_disturb_the_others(self) -> None:
        fewer = draw_few_shot(images({"ant": 9, "cat": 20}), 3, 1)
        more = draw_few_shot(images({"ant": 9, "bee": 7, "cat": 20}), 3, 1)
        assert {p for p, _, _ in fewer.images} == {p for p, _, n in more.images if n != "bee"}

    def test_a_small_class_gives_all_and_the_log_says_so(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            drawn = draw_few_shot(images(SIZES), 8, 1)
        assert drawn.counts() == {"ant": 8, "bee": 7, "cat": 8}
        assert "1 of 3 classes have fewer than 8 images and give all they have: bee (7)." in caplog.text

    @pytest.mark.parametrize(
        ("shots", "seed", "wrong"), [(0, 1, "shots"), (True, 1, "shots"), (2.0, 1, "shots"), (1, -1, "seed")]
    )
    def test_arguments(self, shots: object, seed: object, wrong: str) -> None:
        with pytest.raises(ValueError, match=f"`{wrong}` of a few-shot draw must be"):
            draw_few_shot(images(SIZES), shots, seed)


@pytest.fixture
def parts(tmp_path: Path) -> tuple[ImageList, ImageList]:
    write_set(tmp_path / "data", "food101")
    return read_images("food101", tmp_path / "data", "train"), read_images("food101", tmp_path / "data", "val")


def stored(folder: Path) -> Path:
    return folder / "few_shot" / "food101_5shot_seed3.json"


class TestStored:
    def test_is_text_and_read_again(self, tmp_path: Path, parts: tuple[ImageList, ImageList]) -> None:
        train, val = parts
        draw = load_or_draw(train, val, 5, 3, tmp_path)
        assert draw.train.counts() == dict.fromkeys(NAMES, 5) and draw.val.counts() == dict.fromkeys(NAMES, 4)
        content = json.loads(stored(tmp_path).read_text())
        assert {key: content[key] for key in ("set", "shots", "seed")} == {"set": "food101", "shots": 5, "seed": 3}
        assert content["source_sha256"] == train.source_sha256
        assert [tuple(entry) for entry in content["train"]] == list(draw.train.images)
        assert load_or_draw(train, val, 5, 3, tmp_path) == draw

    def test_the_file_decides_not_the_draw(self, tmp_path: Path, parts: tuple[ImageList, ImageList]) -> None:
        """Somebody else's file, other images, written by hand, in another order, without a checksum."""
        train, val = parts
        mine = [list(entry) for entry in train.images if not entry[0].endswith("_0.jpg")]
        stored(tmp_path).parent.mkdir()
        mine[0][2] = mine[0][2].replace(" ", "_")
        content = {"set": "food101", "shots": 5, "seed": 3, "source_sha256": None, "train": mine[::-1], "val": []}
        stored(tmp_path).write_text(json.dumps(content))
        draw = load_or_draw(train, val, 5, 3, tmp_path)
        assert {path for path, _, _ in draw.train.images} == {entry[0] for entry in mine} and len(draw.val) == 0
        assert [label for _, label, _ in draw.train.images] == sorted(entry[1] for entry in mine)

    def test_validation_comes_from_what_training_left(self, tmp_path: Path) -> None:
        write_folders(tmp_path / "pics", {"train": {"a": 6, "b": 5}, "test": {"a": 1, "b": 1}})
        train = read_images("folder", tmp_path / "pics", "train")
        draw = load_or_draw(train, None, 4, 1, tmp_path)
        assert draw.train.counts() == {"a": 4, "b": 4} and draw.val.counts() == {"a": 2, "b": 1}
        assert not set(draw.train.images) & set(draw.val.images) and draw.val.part == "val"
        assert load_or_draw(train, None, 4, 1, tmp_path) == draw
        assert len(load_or_draw(train, None, 6, 1, tmp_path).val) == 0

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"set": "dtd"},
                "`set` of few-shot draw .*json must be 'food101', as .*Food101.json has it now. Got 'dtd'",
            ),
            ({"shots": 4}, "`shots` of few-shot draw .* must be 5.* Got 4"),
            ({"seed": 1}, "`seed` of few-shot draw .* must be 3.* Got 1"),
            ({"source_sha256": "00"}, "`source_sha256` of few-shot draw .* Got '00'. Remove food101_5shot_seed3.json"),
            ({"val": 3}, "`val` of few-shot draw .* must be a list"),
            ({"extra": 3}, "must hold seed, .* and no other. Got extra"),
            ({"train": [["a.jpg", 0, "zebra crossing"]]}, "Entry 0 of `train` .*it has no such image. Got .*a.jpg"),
            (
                {"train": [["class_0/train_0.jpg", 1, "ant"]]},
                r"Entry 0 of `train` .*: it has \('class_0/train_0.jpg', 0, 'zebra crossing'\). Got .* 1, 'ant'",
            ),
            ({"train": [["class_1/test_0.jpg", 1, "ant"]]}, "it has no such image"),
            ({"train": [["class_1/train_0.jpg", 1, "ant"]]}, "must hold 5 images, or none, of each .* Got 1 of ant"),
            ({"train": [["class_1/train_0.jpg", 1, "ant"]] * 5}, "must hold each image once"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, tmp_path: Path, parts: tuple[ImageList, ImageList], change: dict, message: str
    ) -> None:
        load_or_draw(*parts, 5, 3, tmp_path)
        content = json.loads(stored(tmp_path).read_text())
        stored(tmp_path).write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=message):
            load_or_draw(*parts, 5, 3, tmp_path)

    def test_a_set_that_changed_is_noticed(self, tmp_path: Path, parts: tuple[ImageList, ImageList]) -> None:
        load_or_draw(*parts, 5, 3, tmp_path)
        path = tmp_path / "data" / "food-101" / "split_zhou_Food101.json"
        path.write_text(path.read_text() + "\n")
        train = read_images("food101", tmp_path / "data", "train")
        with pytest.raises(ValueError, match="`source_sha256` of few-shot draw"):
            load_or_draw(train, None, 5, 3, tmp_path)

    def test_a_damaged_file_is_named(self, tmp_path: Path, parts: tuple[ImageList, ImageList]) -> None:
        stored(tmp_path).parent.mkdir()
        stored(tmp_path).write_text('{"set": ')
        with pytest.raises(ValueError, match="Few-shot draw .*seed3.json must be JSON in UTF-8"):
            load_or_draw(*parts, 5, 3, tmp_path)
