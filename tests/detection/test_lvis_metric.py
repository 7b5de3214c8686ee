import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger

from subpt_dense.detection import LVISMetric, federated, lvis_metric
from subpt_dense.registry import METRICS
from tests.detection.lvis_files import BASE, FREQUENCY, META, NOVEL, World, reference, write_world

PROTOCOL = "letters 5/3 federated"
GROUPS = {
    "base": BASE,
    "novel": NOVEL,
    "all": BASE + NOVEL,
    **{
        group: tuple(name for name in META["classes"] if FREQUENCY[name] == letter)
        for letter, group in (("r", "rare"), ("c", "common"), ("f", "frequent"))
    },
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return write_world(tmp_path)


def make(world: World, **kwargs) -> LVISMetric:
    return LVISMetric(ann_file=str(world.path), protocol=PROTOCOL, **kwargs)


def score(metric: LVISMetric, predictions: list[dict], meta: dict = META) -> dict[str, float]:
    metric.dataset_meta = meta
    for prediction in predictions:
        tensors = {k: torch.as_tensor(v) for k, v in prediction.items() if k != "img_id"}
        metric.process({}, [{"img_id": prediction["img_id"], "ori_shape": (160, 160), "pred_instances": tensors}])
    return {key.removeprefix("lvis/"): value for key, value in metric.evaluate(len(predictions)).items()}


def check(scores: dict[str, float], expected: dict[str, np.ndarray], kind: str = "bbox") -> None:
    """Every group and item equals the reference to 1e-6."""
    for group, names in GROUPS.items():
        values = np.array([expected[name] for name in names])
        assert scores[f"{group}_ap"] == pytest.approx(np.nanmean(values), abs=1e-6)
        assert scores[f"{group}_ap50"] == pytest.approx(np.nanmean(values[:, 0]), abs=1e-6)
    values = np.array(list(expected.values()))
    for item, wanted in {"AP": values, "AP50": values[:, 0], "AP75": values[:, 5]}.items():
        assert scores[f"{kind}_{item}"] == pytest.approx(np.nanmean(wanted), abs=1e-6)
    for letter, group in (("r", "rare"), ("c", "common"), ("f", "frequent")):
        assert scores[f"{kind}_AP{letter}"] == pytest.approx(scores[f"{group}_ap"], abs=1e-9)
    assert scores["novel_ap"] == scores["rare_ap"] and 0.05 < scores["all_ap50"] < 0.95


class TestScores:
    @pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
    @pytest.mark.parametrize("scrambled", [False, True], ids=["ids in order", "ids scrambled"])
    @pytest.mark.parametrize("half", [False, True], ids=["all images", "a subset"])
    def test_equal_an_independent_federated_evaluation(
        self, tmp_path: Path, masks: bool, scrambled: bool, half: bool
    ) -> None:
        world = write_world(tmp_path, seed=1, scrambled=scrambled)
        image_ids = [*world.images][: 7 if half else None]
        kind = "segm" if masks else "bbox"
        scores = score(make(world, metric=kind), world.predictions(image_ids, masks))
        check(scores, reference(world, image_ids, masks), kind)

    @pytest.mark.parametrize("change", ["nothing is absent", "everything is absent", "everything is labelled fully"])
    def test_are_federated(self, world: World, change: str) -> None:
        """What is left out would change the numbers, so that the equality above says something."""
        expected, plain = reference(world), write_world(world.path.parent / "plain")
        for image in plain.images.values():
            if change == "everything is labelled fully":
                image.partly.clear()
            else:
                image.absent = set() if change == "nothing is absent" else set(FREQUENCY)
        without = reference(plain)
        assert max(abs(without[name] - expected[name]).max() for name in META["classes"]) > 0.01

    def test_of_a_subset_do_not_depend_on_the_other_images(self, world: World) -> None:
        few = [*world.images][:6]
        scores = score(make(world), world.predictions(few))
        content = json.loads(world.path.read_text())
        for key, of in (("images", "id"), ("annotations", "image_id")):
            content[key] = [one for one in content[key] if one[of] in few]
        world.path.write_text(json.dumps(content))
        assert score(make(world), world.predictions(few)) == scores

    def test_do_not_depend_on_the_chunks(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        scores = score(make(world), world.predictions())
        monkeypatch.setattr(federated, "_CHUNK", 2)
        assert score(make(world), world.predictions()) == scores

    def test_do_not_depend_on_the_order_of_labels(self, world: World) -> None:
        scores = score(make(world), world.predictions())
        classes = META["classes"][::-1]
        turned = world.predictions()
        for prediction in turned:
            prediction["labels"] = 7 - prediction["labels"]
        assert score(make(world), turned, META | {"classes": classes}) == pytest.approx(scores, abs=1e-9)

    def test_by_area_are_of_the_objects_of_that_area(self, world: World) -> None:
        scores = score(make(world), world.predictions())
        content = json.loads(world.path.read_text())
        for annotation in content["annotations"]:
            annotation["area"] = 40 * 40  # every object is of medium size; detections keep their own
        world.path.write_text(json.dumps(content))
        medium = score(make(world), world.predictions())
        assert medium["bbox_APs"] == medium["bbox_APl"] == -1 and medium["bbox_AP"] == scores["bbox_AP"]
        assert all(0 < scores[f"bbox_AP{key}"] < 1 for key in "sml")

    def test_no_detection_at_all_is_zero(self, world: World) -> None:
        for image in world.images.values():
            image.found.clear()
        scores = score(make(world), world.predictions())
        assert scores["all_ap"] == scores["bbox_AP50"] == scores["rare_ap"] == 0

    def test_a_class_without_objects_is_left_out(self, world: World) -> None:
        content = json.loads(world.path.read_text())
        gone = {world.ids[name] for name in NOVEL}
        content["annotations"] = [one for one in content["annotations"] if one["category_id"] not in gone]
        world.path.write_text(json.dumps(content))
        metric = make(world)
        scores = score(metric, world.predictions())
        assert scores["novel_ap"] == scores["bbox_APr"] == -1
        assert scores["base_ap"] == scores["all_ap"] == pytest.approx(scores["bbox_AP"]) and scores["all_ap"] > 0
        assert metric.table.groups["rare"] == {"ap50": None, "ap": None, "classes": 3}


class TestLimits:
    def test_the_best_of_an_image_are_kept_over_all_its_categories(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unlimited = reference(world)
        monkeypatch.setattr(lvis_metric, "PER_IMAGE", 4)
        expected = reference(world, per_image=4)
        check(score(make(world), world.predictions()), expected)
        assert any(abs(expected[name] - unlimited[name]).max() > 0.01 for name in expected)

    def test_fixed_ap_keeps_the_best_of_each_category_over_all_images(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lvis_metric, "PER_IMAGE", 1)  # plays no part
        check(score(make(world, fixed=True), world.predictions()), reference(world, per_image=10**6))
        monkeypatch.setattr(lvis_metric, "PER_CATEGORY", 9)
        expected = reference(world, per_category=9)
        check(score(make(world, fixed=True), world.predictions()), expected)
        assert any(abs(expected[name] - one).max() > 0.01 for name, one in reference(world).items())

    def test_masks_are_cut_with_their_boxes(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lvis_metric, "PER_IMAGE", 5)
        scores = score(make(world, metric="segm"), world.predictions(masks=True))
        check(scores, reference(world, masks=True, per_image=5), "segm")

    def test_files_for_a_server_keep_what_the_file_does_not_know(self, world: World, tmp_path: Path) -> None:
        metric = make(world, format_only=True, outfile_prefix=str(tmp_path / "found"))
        assert score(metric, world.predictions()) == {}
        rows = json.loads((tmp_path / "found.bbox.json").read_text())
        assert len(rows) == sum(len(image.found) for image in world.images.values())
        assert {row["category_id"] for row in rows} <= {world.ids[name] for name in META["classes"]}


class TestTable:
    def test_says_what_the_numbers_mean(self, world: World) -> None:
        metric = make(world)
        scores = score(metric, world.predictions([*world.images][:9]))
        table = metric.table
        assert (table.protocol, table.label_space, table.images) == (PROTOCOL, "8 names (5 base + 3 novel)", 9)
        assert len(table.annotation_sha256) == 64 and table.details["images_in_file"] == 14
        assert table.details["detections_per_image"] == 300 and "detections_per_class" not in table.details
        assert table.details["ap75"] == pytest.approx(100 * scores["bbox_AP75"], abs=1e-3)
        for group, names in GROUPS.items():
            assert table.groups[group]["classes"] == len(names)
            assert table.groups[group]["ap"] == pytest.approx(100 * scores[f"{group}_ap"])

    def test_of_fixed_ap_has_a_name_of_its_own(self, world: World) -> None:
        metric = make(world, fixed=True)
        score(metric, world.predictions())
        assert metric.table.protocol == f"{PROTOCOL}, fixed AP (10,000 detections a class)"
        assert metric.table.details["detections_per_class"] == 10_000

    def test_nothing_is_printed(self, world: World, capfd: pytest.CaptureFixture[str]) -> None:
        MMLogger.get_current_instance()
        score(make(world), world.predictions())
        assert "valuate" not in capfd.readouterr().out


class TestRefusals:
    @pytest.mark.parametrize(
        ("key", "part", "message"),
        [
            ("neg_category_ids", "images", r"image \d+ has no neg_category_ids.* and 11 more"),
            ("not_exhaustive_category_ids", "images", r"image \d+ has no not_exhaustive_category_ids"),
            ("frequency", "categories", "category .* has the frequency None"),
        ],
    )
    def test_a_file_that_is_not_lviss(self, world: World, key: str, part: str, message: str) -> None:
        content = json.loads(world.path.read_text())
        for one in content[part]:
            del one[key]
        world.path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=rf"`ann_file` of LVISMetric must be LVIS's.*lvis.json {message}"):
            make(world)

    @pytest.mark.parametrize("key", ["proposal_nums", "metric_items", "use_mp_eval"])
    def test_what_lvis_decides(self, world: World, key: str) -> None:
        with pytest.raises(ValueError, match=f"`{key}` is not for LVISMetric"):
            make(world, **{key: (100,)})

    def test_a_missing_evaluator_is_named_with_its_remedy(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
        with pytest.raises(ImportError, match=r"needs faster-coco-eval.*pip install 'subpt_dense\[lvis\]'"):
            make(world)

    def test_what_the_coco_metric_refuses(self, world: World) -> None:
        with pytest.raises(ValueError, match="`protocol` of OVDMetric must be a non-empty string"):
            LVISMetric(ann_file=str(world.path), protocol=" ", fixed=True)


def test_builds_from_a_config(world: World) -> None:
    cfg = {"type": "subpt_dense.LVISMetric", "ann_file": str(world.path), "protocol": PROTOCOL, "metric": "segm"}
    assert isinstance(METRICS.build(cfg), LVISMetric)
