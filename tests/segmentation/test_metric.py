import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric
from PIL import Image

from subpt_dense.registry import METRICS
from subpt_dense.segmentation.metric import ZeroShotIoUMetric, count_pixels

NAMES = ("zebra", "ant", "mule", "bee", "yak")
META = {"classes": NAMES, "base_classes": ("mule", "zebra", "ant"), "novel_classes": ("yak", "bee")}
SEEN, UNSEEN = (0, 1, 2), (3, 4)  # positions in NAMES, whatever the order in the groups
Maps = list[tuple[np.ndarray, np.ndarray]]


def random_maps(seed: int, labels: tuple[int, ...] = (0, 1, 2, 3, 4), images: int = 4) -> Maps:
    """(prediction, ground truth) pairs of several sizes; a tenth of the pixels is ignored."""
    rng = np.random.default_rng(seed)
    pairs = []
    for k in range(images):
        shape = (7 + k, 11)
        truth = rng.choice(labels, shape)
        wrong = rng.random(shape) < 0.4
        predicted = np.where(wrong, rng.choice(labels, shape), truth)
        pairs.append((predicted, np.where(rng.random(shape) < 0.1, 255, truth)))
    return pairs


def sample(predicted: np.ndarray, truth: np.ndarray, name: str = "a", **more) -> dict:
    maps = {"pred_sem_seg": predicted, "gt_sem_seg": truth}
    made = {key: {"data": torch.as_tensor(values.astype(np.int64))[None]} for key, values in maps.items()}
    return made | {"img_path": f"data/img/{name}.jpg", "seg_map_path": f"data/ann/{name}.png"} | more


def score(metric: IoUMetric, pairs: Maps, meta: dict = META, **more) -> dict[str, float]:
    metric.dataset_meta = meta
    for k, (predicted, truth) in enumerate(pairs):
        metric.process({}, [sample(predicted, truth, f"{k:03d}", **more)])
    return metric.evaluate(len(pairs))


def make(**kwargs) -> ZeroShotIoUMetric:
    return ZeroShotIoUMetric(protocol="letters-3/2 generalised", **kwargs)


def reference(pairs: Maps, classes: int = 5) -> dict[str, float]:
    """The scores, class by class, with sets of pixels over all images; -1 where there is none."""
    truth = np.concatenate([t.reshape(-1) for _, t in pairs])
    predicted = np.concatenate([p.reshape(-1) for p, _ in pairs])[truth != 255]
    truth = truth[truth != 255]
    ious: dict[int, float] = {}
    for k in range(classes):
        union = ((truth == k) | (predicted == k)).sum()
        if union:
            ious[k] = 100 * ((truth == k) & (predicted == k)).sum() / union
    groups = {"S": SEEN, "U": UNSEEN, "mIoU": range(classes)}
    found = {g: [ious[k] for k in ks if k in ious] for g, ks in groups.items()}
    scores = {g: sum(values) / len(values) if values else -1.0 for g, values in found.items()}
    s, u = scores["S"], scores["U"]
    hiou = -1.0 if min(s, u) < 0 else 2 * s * u / (s + u) if s + u else 0.0
    return scores | {"hIoU": hiou, "pAcc": 100 * (truth == predicted).mean()}


RANDOM = random_maps(0)
CONSTANT = [(np.full((4, 4), 2), np.full((4, 4), 2))]
CASES = {
    "random": RANDOM,
    "one class absent": random_maps(1, labels=(0, 1, 3, 4)),
    "absent but predicted": [(np.array([[0, 2], [3, 3]]), np.array([[0, 0], [3, 3]]))],
    "absent, predicted on ignored pixels only": [(np.array([[0, 2], [3, 3]]), np.array([[0, 255], [3, 3]]))],
    "no unseen class": random_maps(2, labels=(0, 1, 2)),
    "no seen class": random_maps(3, labels=(3, 4)),
    "all wrong": [(np.array([[1, 4]]), np.array([[0, 3]]))],
    "one class": CONSTANT,
    "an image all ignored": [*RANDOM, (np.zeros((5, 5), int), np.full((5, 5), 255))],
    "images of one pixel": [(np.array([[4]]), np.array([[4]])), (np.array([[1]]), np.array([[0]]))],
}


class TestScores:
    @pytest.mark.parametrize("pairs", CASES.values(), ids=CASES)
    def test_equal_an_independent_computation(self, pairs: Maps) -> None:
        expected = reference(pairs)
        scores = score(make(), pairs)
        assert {key: scores[key] for key in expected} == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("pairs", CASES.values(), ids=CASES)
    def test_equal_the_hosts_where_they_overlap(self, pairs: Maps) -> None:
        kinds = ["mIoU", "mDice", "mFscore"]
        host = score(IoUMetric(iou_metrics=kinds), pairs)
        ours = score(make(iou_metrics=kinds), pairs)
        assert set(host) <= set(ours) and {"aAcc", "mIoU", "mAcc", "mDice", "mFscore"} <= set(host)
        for key, value in host.items():
            if not np.isnan(value):  # the host rounds to two digits
                assert ours[key] == pytest.approx(value, abs=6e-3), key
        assert ours["pAcc"] == pytest.approx(ours["aAcc"], abs=1e-9)

    def test_are_of_the_whole_set_not_means_over_images(self) -> None:
        large, small = (np.zeros((9, 9), int), np.zeros((9, 9), int)), (np.array([[3]]), np.array([[0]]))
        scores = score(make(), [large, small])
        assert scores["S"] == pytest.approx(100 * 81 / 82) and scores["U"] == 0 and scores["hIoU"] == 0

    def test_go_by_name_whatever_the_order_of_the_labels(self) -> None:
        order = [4, 2, 0, 3, 1]
        turned = [(np.argsort(order)[p], np.where(t == 255, 255, np.argsort(order)[t % 255])) for p, t in RANDOM]
        meta = META | {"classes": tuple(NAMES[k] for k in order)}
        assert score(make(), turned, meta) == pytest.approx(score(make(), RANDOM), abs=1e-9)

    def test_count_more_pixels_than_float32_can(self) -> None:
        """The host adds float32: 2^24 + 1 is 2^24 there."""
        metric = make()
        metric.dataset_meta = META
        counts = torch.tensor([[2**24, 0, 0, 1, 0], [2**24 + 1, 0, 0, 1, 0], [0] * 5, [2**24 + 1, 0, 0, 1, 0]])
        one = {"digest": "a", "folder": "x", "gamma": None}
        scores = metric.compute_metrics([{"counts": counts, **one}, {"counts": counts * 0, **one}])
        assert scores["S"] == pytest.approx(100 * 2**24 / (2**24 + 1), abs=1e-7) and scores["S"] != 100

    def test_a_set_for_transfer_has_one_group(self) -> None:
        metric = make()
        scores = score(metric, RANDOM, META | {"base_classes": NAMES, "novel_classes": ()})
        assert scores["mIoU"] == pytest.approx(reference(RANDOM)["mIoU"])
        assert not {"S", "U", "hIoU"} & set(scores) and set(metric.table.groups) == {"all"}
        assert metric.table.label_space == "5 names"


class TestTable:
    def test_says_what_the_numbers_mean(self, tmp_path: Path) -> None:
        metric = make(classwise=True)
        scores = score(metric, RANDOM, gamma=0.25)
        table = metric.table
        assert table.label_space == "5 names (3 seen + 2 unseen)" and table.images == 4
        assert table.annotation_file == "data/ann" and table.details["gamma"] == 0.25
        assert table.groups["seen"] == {"miou": pytest.approx(scores["S"]), "classes": 3}
        assert table.groups["unseen"] == {"miou": pytest.approx(scores["U"]), "classes": 2}
        whole = {"miou": scores["mIoU"], "pacc": scores["pAcc"], "hiou": scores["hIoU"], "classes": 5}
        assert table.groups["all"] == pytest.approx(whole)
        assert table.details["pixels"] == sum((t != 255).sum() for _, t in RANDOM)
        assert set(table.details["per_class"]) == set(NAMES)
        text = table.to_text()
        assert "MIOU" in text and "HIOU" in text and f"{scores['U']:.1f}" in text and "gamma" in text
        table.to_json(tmp_path / "t.json")
        assert json.loads((tmp_path / "t.json").read_text())["protocol"] == "letters-3/2 generalised"

    def test_a_group_without_a_score_has_none(self) -> None:
        metric = make()
        scores = score(metric, CASES["no unseen class"])
        assert scores["U"] == scores["hIoU"] == -1 and scores["S"] > 0
        assert metric.table.groups["unseen"]["miou"] is None and metric.table.groups["all"]["hiou"] is None
        assert metric.table.details["classes_scored"] == 3 and "gamma" not in metric.table.details

    def test_the_hash_is_of_names_and_contents_not_of_the_order(self) -> None:
        def of(pairs: Maps, order: list[int], prefix: str = "a") -> str:
            metric = make()
            metric.dataset_meta = META
            for k in order:
                metric.process({}, [sample(*pairs[k], name=f"{prefix}{k}")])
            metric.evaluate(len(order))
            return metric.table.annotation_sha256

        changed = [(p, t.copy()) for p, t in RANDOM]
        changed[0][1][0, 0] = 254 - changed[0][1][0, 0] if changed[0][1][0, 0] == 255 else 255
        others = [(np.zeros_like(p), t) for p, t in RANDOM]
        base = of(RANDOM, [0, 1, 2, 3])
        assert base == of(RANDOM, [3, 1, 0, 2]) == of(others, [0, 1, 2, 3])
        assert len({base, of(changed, [0, 1, 2, 3]), of(RANDOM, [0, 1, 2]), of(RANDOM, [0, 1, 2, 3], "b")}) == 4

    def test_is_of_the_last_evaluation(self) -> None:
        metric = make()
        score(metric, RANDOM)
        first = metric.table
        scores = score(metric, CONSTANT)
        assert metric.table is not first and metric.table.images == 1 and scores["S"] == 100

    def test_logs_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines: list[str] = []
        monkeypatch.setattr(MMLogger.get_current_instance(), "info", lambda text, *args, **kwargs: lines.append(text))
        score(make(classwise=True), RANDOM)
        assert "unseen" in lines[0] and "zebra: " in lines[1]


def test_is_built_from_a_config() -> None:
    cfg = {"type": "subpt_dense.ZeroShotIoUMetric", "protocol": "x", "prefix": "val"}
    assert isinstance(METRICS.build(cfg), ZeroShotIoUMetric)


@pytest.mark.parametrize(("classes", "dtype"), [(5, np.uint8), (300, np.uint16)])
def test_predictions_are_written(tmp_path: Path, classes: int, dtype: type) -> None:
    names = tuple(f"name {k}" for k in range(classes))
    metric = make(output_dir=str(tmp_path / "out"), format_only=True, ignore_index=65535)
    metric.dataset_meta = {"classes": names, "base_classes": names, "novel_classes": ()}
    predicted = np.array([[0, classes - 1]])
    metric.process({}, [sample(predicted, predicted, "x")])
    metric.process({}, [sample(predicted, predicted, "y", reduce_zero_label=True)])
    assert metric.evaluate(2) == {} and metric.table is None
    for name, shift in (("x", 0), ("y", 1)):
        found = np.array(Image.open(tmp_path / "out" / f"{name}.png"))
        assert found.dtype == dtype and (found == predicted + shift).all()
    assert len(list((tmp_path / "out").iterdir())) == 2


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"protocol": " "}, "`protocol` of ZeroShotIoUMetric must be a non-empty string.* Got ' '"),
            ({"nan_to_num": 0}, "`nan_to_num` of ZeroShotIoUMetric must be None.* Got 0"),
            ({"iou_metrics": ["mDice"]}, r"must hold 'mIoU' .* Got \['mDice'\]"),
            ({"iou_metrics": ["mIoU", "dice"]}, "may hold 'mDice' and 'mFscore'"),
        ],
    )
    def test_arguments(self, change: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ZeroShotIoUMetric(**{"protocol": "x", **change})

    @pytest.mark.parametrize(
        ("predicted", "truth", "message"),
        [
            (
                np.array([[5]]),
                np.array([[0]]),
                r"Predicted labels of data/ann/000.png must be in \[0, 4\].* Got 5 to 5",
            ),
            (np.array([[5]]), np.array([[255]]), "Predicted labels"),
            (np.array([[-1]]), np.array([[0]]), "Got -1 to -1"),
            (np.array([[0, 0]]), np.array([[7, 255]]), "Labels of .* for 5 classes. Got 7 to 7"),
            (np.zeros((2, 3), int), np.zeros((3, 2), int), r"size of its label map, \[3, 2\]. Got \[2, 3\]"),
            (np.zeros((2, 2), int), np.full((2, 2), 255), "Got 1 images all of whose pixels are ignored"),
        ],
    )
    def test_maps(self, predicted: np.ndarray, truth: np.ndarray, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            score(make(), [(predicted, truth)])

    def test_an_empty_data_set(self) -> None:
        metric = make()
        metric.dataset_meta = META
        with pytest.raises(ValueError, match="needs at least one evaluated image"):
            metric.compute_metrics([])

    @pytest.mark.parametrize(
        ("meta", "message"),
        [
            ({"classes": NAMES}, "needs base_classes, novel_classes in the data set's metainfo"),
            (META | {"novel_classes": ("bee",)}, "must be either seen or unseen. Got yak in neither or both"),
            (META | {"base_classes": NAMES}, "Got bee, yak in neither or both"),
        ],
    )
    def test_data_sets_without_groups(self, meta: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            score(make(), RANDOM, meta)

    def test_an_ignored_label_that_is_a_class(self) -> None:
        names = tuple(map(str, range(300)))
        with pytest.raises(ValueError, match="no label of the 300 classes. Got 255: give data set and metric 65535"):
            score(make(), CONSTANT, {"classes": names, "base_classes": names, "novel_classes": ()})


def test_counts_of_one_image_by_hand() -> None:
    predicted, truth = torch.tensor([[0, 1, 1], [2, 2, 0]]), torch.tensor([[0, 1, 2], [2, 9, 9]])
    counts = count_pixels(predicted, truth, 3, ignore_index=9, where="x")
    assert counts.dtype == torch.int64
    assert counts.tolist() == [[1, 1, 1], [1, 2, 2], [1, 2, 1], [1, 1, 2]]
