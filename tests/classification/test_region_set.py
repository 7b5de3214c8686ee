"""Cached regions as training data: who gets which label, what an item is, what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subpt_dense.classification import RegionSet
from subpt_dense.datasets.region_cache import RegionCache
from subpt_dense.registry import DATASETS
from tests.classification.region_world import BASE, NOVEL, SPLIT, Box, write_annotations, write_cache

HASH = "a" * 64
#: One box of 10 x 10, and regions inside it as high as their IoU with it says, in tenths.
CAT: Box = (1, "cat", (0, 0, 10, 10), {})
Make = Callable[..., RegionSet]


def strip(tenths: float) -> list[float]:
    return [0, 0, 10, tenths]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A data set of these boxes and regions; options go on top."""

    def build(boxes: list[Box], regions: dict[int, Any], images: tuple[int, ...] = (), **options: Any) -> RegionSet:
        write_annotations(tmp_path / "boxes.json", boxes, images)
        if not (tmp_path / "regions").exists():
            write_cache(tmp_path / "regions", regions, HASH)
        config = {"type": "subpt_dense.RegionSet", "ann_file": "boxes.json", "data_prefix": {"regions": "regions/"}}
        draws = {"draw_dir": str(tmp_path / "draws")}
        return DATASETS.build({**config, **draws, "data_root": str(tmp_path), "split": SPLIT, **options})

    return build


def rows(data: RegionSet) -> list[tuple[int, int]]:
    """(row in the cache, label) of every item."""
    return list(zip(data._regions.row.tolist(), data.labels.tolist(), strict=True))


TENTHS = [10, 9, 8.99, 7, 6.01, 6, 5.99, 5, 4.99, 1, 0.99]


@pytest.mark.parametrize(
    ("grade", "shown"),
    [
        ((0.5, 0.6), [6, 7]),
        ((0.6, 0.7), [4, 5]),
        ((0.7, 0.8), [3]),
        ((0.8, 0.9), [2]),
        ((0.9, 1.1), [0, 1]),  # the annotated box itself is in the last grade
        ((0.5, 1.1), list(range(8))),
        ((0.9, 1.0), [1]),
    ],
    ids=str,
)
def test_a_grade_has_its_lower_end_and_not_its_upper_one(make: Make, grade: Any, shown: list[int]) -> None:
    data = make([CAT], {1: [strip(tenths) for tenths in TENTHS]}, grade=grade, background=None)
    assert rows(data) == [(row, 0) for row in shown]
    np.testing.assert_allclose(data.ious, [TENTHS[row] / 10 for row in shown], rtol=1e-6)


@pytest.mark.parametrize(
    ("background", "behind"), [((0.1, 0.5), [8, 9]), ((0.0, 0.5), [8, 9, 10]), ((0.05, 0.1), [10]), (None, [])]
)
def test_background_likewise(make: Make, background: Any, behind: list[int]) -> None:
    data = make([CAT], {1: [strip(tenths) for tenths in TENTHS]}, grade=(0.9, 1.1), background=background)
    assert rows(data) == [(0, 0), (1, 0), *((row, -1) for row in behind)]


def test_a_region_has_the_label_of_its_largest_iou(make: Make) -> None:
    boxes: list[Box] = [CAT, (1, "hot dog", (0, 0, 10, 6), {})]
    data = make(boxes, {1: [strip(10), strip(7), strip(8.5)]})
    assert rows(data) == [(0, 0), (1, 1), (2, 0)]
    np.testing.assert_allclose(data.ious, [1, 6 / 7, 0.85])


def test_boxes_outside_the_group_are_not_read(make: Make) -> None:
    """To the learner a novel class, and a class of neither group, do not exist: their boxes are no background."""
    boxes: list[Box] = [
        CAT,
        (1, "owl", (50, 0, 10, 10), {}),
        (1, "fox", (0, 50, 10, 10), {}),
        (2, "owl", (0, 0, 9, 9), {}),
    ]
    regions = {1: [strip(10), [50, 0, 60, 10], [0, 50, 10, 60]], 2: [strip(9)]}
    assert rows(make(boxes, regions)) == [(0, 0)]
    novel = make(boxes, regions, group="novel")
    assert rows(novel) == [(1, 0), (0, 0)] and novel.metainfo["classes"] == NOVEL
    everything = make(boxes, regions, group="all")
    assert rows(everything) == [(0, 0), (1, 2), (0, 2)] and everything.metainfo["classes"] == BASE + NOVEL


def test_ignored_and_degenerate_boxes_are_not_read(make: Make) -> None:
    boxes: list[Box] = [
        CAT,
        (1, "cat", (50, 0, 10, 10), {"ignore": 1}),
        (1, "cat", (70, 0, 10, 0.5), {}),
        (1, "cat", (80, 0, 10, 10), {"area": 0}),
    ]
    regions = [strip(10), [50, 0, 60, 10], [70, 0, 80, 0.5], [80, 0, 90, 10]]
    assert rows(make(boxes, {1: regions})) == [(0, 0)]


@pytest.mark.parametrize(("ignore_iof", "kept"), [(0.5, [(0, 0)]), (1.0, [(0, 0), (1, -1)])])
def test_background_in_a_crowd_is_left_out(make: Make, ignore_iof: float, kept: list[tuple[int, int]]) -> None:
    """A region that shows a class is not: a crowd's box may cover single objects."""
    crowd: Box = (1, "hot dog", (0, 0, 10, 2), {"iscrowd": 1})
    data = make([CAT, crowd], {1: [strip(6), strip(4)]}, ignore_iof=ignore_iof)
    assert rows(data) == kept  # half of region 1 lies in the crowd


def test_an_item(make: Make, tmp_path: Path) -> None:
    data = make([CAT, (3, "hot dog", (0, 0, 10, 10), {})], {1: [strip(5), strip(1)], 3: [strip(2), strip(9)]})
    assert rows(data) == [(0, 0), (1, -1), (0, -1), (1, 1)] and len(data) == 4
    item = data[3]
    expected = RegionCache(tmp_path / "regions").embeddings(3)[1]
    assert item.keys() == {"inputs", "label", "index", "tower"}
    assert item["inputs"].dtype == torch.float32 and torch.equal(item["inputs"], torch.tensor(expected).float())
    assert (item["label"], item["index"], item["tower"], data[1]["label"]) == (1, 3, HASH, -1)


def test_metainfo(make: Make, tmp_path: Path) -> None:
    meta = make([CAT], {1: [strip(6)]}, grade=(0.6, 0.7)).metainfo
    assert len(meta.pop("annotation_sha256")) == 64
    assert meta == {
        "classes": BASE,
        "base_classes": BASE,
        "novel_classes": NOVEL,
        "dataset_type": "region_set",
        "set": "zoo",
        "part": "regions, IoU [0.6, 0.7)",
        "group": "base",
        "annotation_file": str(tmp_path / "boxes.json"),
    }


def test_classes_count_the_same_and_background_half_of_them(make: Make) -> None:
    boxes: list[Box] = [CAT, (2, "hot dog", (0, 0, 10, 10), {})]
    data = make(boxes, {1: [strip(9), strip(8), strip(7), strip(2)], 2: [strip(9), strip(3)]}, balanced=True)
    totals = {label: data.weights[data.labels == label].sum() for label in (-1, 0, 1)}
    assert totals[0] == pytest.approx(totals[1]) == pytest.approx(totals[-1])
    # With N = 6: N / (K n_c) = 6 / (2 * 3), 6 / (2 * 1), and N / (2 n_b) = 6 / (2 * 2), as the official release has it.
    np.testing.assert_allclose(data.weights, [1, 1, 1, 1.5, 3, 1.5])
    assert [data[i]["weight"] for i in range(6)] == data.weights.tolist()
    assert not make(boxes, {}).weights.std()


def test_weights_by_hand_with_more_classes(make: Make) -> None:
    boxes: list[Box] = [CAT, (2, "hot dog", (0, 0, 10, 10), {}), (3, "owl", (0, 0, 10, 10), {})]
    data = make(boxes, {i: [strip(9), strip(3)] for i in (1, 2, 3)}, balanced=True, group="all")
    totals = {label: data.weights[data.labels == label].sum() for label in (-1, 0, 1, 2)}
    assert totals == pytest.approx({0: 2, 1: 2, 2: 2, -1: 3})  # all classes 6, background half of it


def test_a_part_of_the_background_is_drawn(make: Make) -> None:
    regions = {1: [strip(9), *(strip(1 + n / 100) for n in range(40))]}
    whole = make([CAT], regions)
    some = [make([CAT], regions, background_kept=0.25, draw=draw) for draw in (1, 1, 2)]
    assert [len(data) for data in (whole, *some)] == [41, 11, 11, 11]
    assert rows(some[0]) == rows(some[1]) != rows(some[2]) and set(rows(some[2])) < set(rows(whole))
    assert rows(some[0])[0] == (0, 0) and rows(some[0]) == sorted(rows(some[0]))


def test_few_boxes_a_class(make: Make, tmp_path: Path) -> None:
    """What is not drawn is not annotated; the draw is kept as text, and found again."""
    boxes: list[Box] = [(i, name, (0, 0, 10, 10), {}) for i, name in enumerate(["cat"] * 6 + ["hot dog"] * 2)]
    regions = {i: [strip(9), strip(3)] for i in range(8)}
    data = make(boxes, regions, boxes_per_class=2, draw=4)
    assert sorted(data.labels.tolist()) == [-1] * 4 + [0, 0, 1, 1]
    (file,) = (tmp_path / "draws" / "few_shot").iterdir()
    assert file.name == "zoo_boxes_2shot_seed4.json"
    assert make(boxes, regions, boxes_per_class=2, draw=4)._regions.image.tolist() == data._regions.image.tolist()
    draws = [make(boxes, regions, boxes_per_class=2, draw=n)._regions.image.tolist() for n in range(5, 10)]
    assert any(draw != data._regions.image.tolist() for draw in draws)
    with pytest.raises(ValueError, match=r"`source_sha256` of few-shot draw .*seed4.json must be"):
        make([*boxes, CAT], regions, boxes_per_class=2, draw=4)


def test_caches_are_joined(make: Make, tmp_path: Path) -> None:
    write_cache(tmp_path / "truth", {1: [strip(10)]}, HASH)
    data = make([CAT], {1: [strip(5)]}, data_prefix={"a": "regions", "b": "truth"})
    assert rows(data) == [(0, 0), (0, 0)] and data.ious.tolist() == [0.5, 1]
    assert not torch.equal(data[0]["inputs"], data[0]["inputs"].flip(0)) and data[1]["index"] == 1


def test_images_without_a_box_need_no_regions(make: Make) -> None:
    data = make([CAT], {1: [strip(9)], 8: [strip(9)]}, images=(2,))
    assert rows(data) == [(0, 0)]  # 2 is not cached, 8 is not annotated


def test_it_is_read_in_worker_processes(make: Make) -> None:
    data = make([CAT], {1: [strip(9), strip(3), strip(6)]}, balanced=True)
    batches = list(torch.utils.data.DataLoader(data, batch_size=2, num_workers=1))
    assert [batch["label"].tolist() for batch in batches] == [[0, -1], [0]]
    assert torch.equal(batches[1]["inputs"][0], data[2]["inputs"]) and batches[0]["tower"] == [HASH] * 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"grade": (0.6, 0.6)}, ValueError, r"`grade` of RegionSet must be .*0 < low < high. Got \(0.6, 0.6\)"),
        ({"grade": (0.0, 0.6)}, ValueError, r"Got \(0.0, 0.6\)"),
        (
            {"background": (0.1, 0.51)},
            ValueError,
            r"`background` .* high <= 0.5, where `grade` begins. Got \(0.1, 0.51\)",
        ),
        ({"background_kept": 0.0}, ValueError, r"`background_kept` of RegionSet must be in \(0, 1\]. Got 0.0"),
        ({"ignore_iof": 50}, ValueError, r"`ignore_iof` of RegionSet must be in \(0, 1\]. Got 50"),
        ({"data_prefix": {}}, ValueError, r"`data_prefix` of RegionSet must name at least one region cache"),
        ({"group": "rare"}, ValueError, r"`group` of split 'zoo' must be one of .* Got 'rare'"),
        ({"boxes_per_class": 0}, ValueError, r"must be a positive integer. Got 0"),
        ({"ann_file": "none.json"}, FileNotFoundError, r"Annotation file .*none\.json does not exist"),
        ({"split": {**SPLIT, "base": ["cat", "gnu"]}}, ValueError, r"each of the 2 class names. Missing are 1 .*: gnu"),
        ({"data_prefix": {"a": "gone"}}, FileNotFoundError, r"region cache .*gone does not exist"),
        ({"grade": (0.7, 0.8)}, ValueError, r"must show classes in .*boxes.json, IoU \[0.7, 0.8\). Got none of 2"),
    ],
    ids=str,
)
def test_refused(make: Make, options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make([CAT], {1: [strip(9)]}, **options)


def test_a_file_of_another_format_is_refused(make: Make, tmp_path: Path) -> None:
    make([CAT], {1: [strip(9)]})
    (tmp_path / "other.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match=r"other.json must hold .* Got no annotations, categories"):
        make([CAT], {}, ann_file="other.json")


def test_a_cache_of_other_images_is_refused(make: Make) -> None:
    boxes: list[Box] = [CAT, (2, "cat", (0, 0, 10, 10), {}), (3, "cat", (0, 0, 10, 10), {})]
    with pytest.raises(
        LookupError, match=r"regions/ must hold every image of .*boxes.json .*It has 1 images, and lacks 2, such as 2"
    ):
        make(boxes, {1: [strip(9)]})


def test_a_cache_of_other_weights_is_refused(make: Make, tiny_clip: tuple[str, str]) -> None:
    image = {"model": tiny_clip[0], "pretrained": tiny_clip[1]}
    with pytest.raises(ValueError, match=rf"must come from the image tower in use, .* comes from tiny .*{HASH}"):
        make([CAT], {1: [strip(9)]}, image=image)
