import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.evaluation import OVCocoMetric
from mmengine.logging import MMLogger
from pycocotools import mask as mask_api

from subpt_dense.detection import OVDMetric
from subpt_dense.registry import METRICS
from tests.detection.coco_files import BASE, META, NOVEL, ORDERS, OTHER, World, reference, write_world

PROTOCOL = "letters 5/3 generalised"


@pytest.fixture(params=ORDERS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return write_world(tmp_path, request.param)


@pytest.fixture
def scrambled(tmp_path: Path) -> World:
    return write_world(tmp_path, "both scrambled")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    logger = MMLogger.get_current_instance()
    for level in ("info", "warning"):
        monkeypatch.setattr(logger, level, lambda text, *args, **kwargs: lines.append(text))
    return lines


def make(world: World, **kwargs) -> OVDMetric:
    return OVDMetric(ann_file=str(world.path), protocol=PROTOCOL, **kwargs)


def score(metric, predictions: list[dict], meta: dict = META) -> dict[str, float]:
    metric.dataset_meta = meta
    for prediction in predictions:
        tensors = {k: torch.as_tensor(v) for k, v in prediction.items() if k != "img_id"}
        metric.process({}, [{"img_id": prediction["img_id"], "ori_shape": (300, 300), "pred_instances": tensors}])
    scores = metric.evaluate(len(predictions))
    return {key.removeprefix("coco/"): value for key, value in scores.items()}


class TestGroups:
    @pytest.mark.parametrize("half", [False, True], ids=["all images", "a subset"])
    def test_equal_pycocotools_in_any_order_of_the_file(self, world: World, half: bool) -> None:
        image_ids = world.image_ids[:6] if half else world.image_ids
        scores = score(make(world), world.predictions(image_ids=image_ids))
        for group, names in (("base", BASE), ("novel", NOVEL), ("all", BASE + NOVEL)):
            expected = reference(world, names, image_ids)
            assert scores[f"{group}_ap"] == pytest.approx(expected[0], abs=1e-6)
            assert scores[f"{group}_ap50"] == pytest.approx(expected[1], abs=1e-6)
        assert 0.1 < scores["base_ap50"] < 0.9 and scores["base_ap50"] != pytest.approx(scores["novel_ap50"], abs=0.01)

    def test_do_not_depend_on_the_order_of_labels(self, world: World) -> None:
        classes = ("yak", "crab", "newt", "ant", "zebra", "bee", "wasp", "mule")
        scores = score(make(world), world.predictions(classes), META | {"classes": classes})
        assert scores == pytest.approx(score(make(world), world.predictions()), abs=1e-9)

    def test_the_hosts_metric_agrees_only_on_a_file_in_label_order(self, world: World) -> None:
        host = OVCocoMetric(ann_file=str(world.path))
        theirs, ours = score(host, world.predictions()), score(make(world), world.predictions())
        in_order = "as_labels" in world.path.name
        assert (theirs["novel_ap50"] == pytest.approx(ours["novel_ap50"], abs=1e-6)) == in_order
        if in_order:
            assert set(theirs) <= set(ours)
            assert theirs == pytest.approx({key: ours[key] for key in theirs}, abs=6e-4)  # the host rounds to 3 digits

    def test_a_class_without_boxes_is_left_out_and_a_group_without_any_has_no_score(self, scrambled: World) -> None:
        content = json.loads(scrambled.path.read_text())
        gone = {scrambled.ids[name] for name in (*NOVEL, "ant")}
        content["annotations"] = [ann for ann in content["annotations"] if ann["category_id"] not in gone]
        scrambled.path.write_text(json.dumps(content))
        metric = make(scrambled)
        scores = score(metric, scrambled.predictions())
        expected = reference(scrambled, tuple(name for name in BASE if name != "ant"))
        assert scores["base_ap50"] == pytest.approx(expected[1], abs=1e-6)
        assert scores["all_ap50"] == scores["base_ap50"] and scores["novel_ap50"] == scores["novel_ap"] == -1
        assert metric.table.groups["novel"] == {"ap50": None, "ap": None, "classes": 3}

    @pytest.mark.parametrize("group", ["base", "novel"])
    def test_one_group_alone_can_be_evaluated(self, scrambled: World, group: str) -> None:
        names = META[f"{group}_classes"]
        metric = make(scrambled)
        scores = score(metric, scrambled.predictions(names), META | {"classes": names})
        assert scores["all_ap"] == scores[f"{group}_ap"] == pytest.approx(reference(scrambled, names)[0], abs=1e-6)
        assert metric.table.label_space == f"{len(names)} names ({len(names)} {group})"

    def test_of_a_set_for_transfer_are_not_divided(self, scrambled: World) -> None:
        names = BASE + NOVEL
        metric = make(scrambled)
        scores = score(metric, scrambled.predictions(), {"classes": names, "base_classes": names, "novel_classes": ()})
        assert scores["all_ap"] == pytest.approx(reference(scrambled, names)[0], abs=1e-6)
        assert not {"base_ap", "novel_ap50"} & set(scores)
        assert list(metric.table.groups) == ["all"] and metric.table.label_space == "8 names"


class TestPycocotoolsTraps:
    def test_annotation_ids_from_zero_or_repeated_are_renumbered(self, scrambled: World) -> None:
        content = json.loads(scrambled.path.read_text())
        names = {i: name for name, i in scrambled.ids.items()}
        seen = [ann for ann in content["annotations"] if names[ann["category_id"]] in BASE and not ann["iscrowd"]]
        content["annotations"] = seen + [ann for ann in content["annotations"] if ann not in seen]
        x, y, w, h = seen[0][
            "bbox"
        ]  # the annotation that is going to be number 0 is found, so that its loss would show
        scrambled.found.append((seen[0]["image_id"], names[seen[0]["category_id"]], 0.99, [x, y, x + w, y + h]))
        scrambled.path.write_text(json.dumps(content))
        expected = score(make(scrambled), scrambled.predictions())
        for new_id in (lambda n: n, lambda n: 5):
            for n, annotation in enumerate(content["annotations"]):
                annotation["id"] = new_id(n)
            scrambled.path.write_text(json.dumps(content))
            assert score(make(scrambled), scrambled.predictions()) == expected

    def test_no_detection_at_all_scores_zero(self, scrambled: World, logged: list[str]) -> None:
        scrambled.found.clear()
        scores = score(make(scrambled), scrambled.predictions())
        assert scores["base_ap50"] == scores["novel_ap"] == scores["bbox_mAP"] == 0
        assert any("No detection in 12 images" in line for line in logged)

    def test_nothing_is_printed(self, scrambled: World, capfd: pytest.CaptureFixture[str]) -> None:
        score(make(scrambled), scrambled.predictions())
        assert "index" not in capfd.readouterr().out

    def test_several_processes_give_the_same(self, scrambled: World) -> None:
        one, several = make(scrambled), make(scrambled, use_mp_eval=True)
        assert score(several, scrambled.predictions()) == score(one, scrambled.predictions())

    def test_it_can_be_used_again_and_again(self, scrambled: World) -> None:
        metric = make(scrambled)
        first = score(metric, scrambled.predictions())
        part = score(metric, scrambled.predictions(image_ids=scrambled.image_ids[:5]))
        assert score(metric, scrambled.predictions()) == first != part


class TestImages:
    def test_a_subset_is_announced_and_counted(self, scrambled: World, logged: list[str]) -> None:
        metric = make(scrambled)
        score(metric, scrambled.predictions(image_ids=scrambled.image_ids[:5]))
        assert metric.table.images == 5 and metric.table.details["images_in_file"] == 12
        assert any("Scored on 5 of the 12 images" in line for line in logged)

    def test_an_image_evaluated_twice_counts_once(self, scrambled: World, logged: list[str]) -> None:
        expected = score(make(scrambled), scrambled.predictions())
        assert score(make(scrambled), scrambled.predictions() + scrambled.predictions()[:3]) == expected
        assert any(line.startswith("3 results are of an image already evaluated") for line in logged)

    def test_an_image_of_another_file_is_an_error(self, scrambled: World) -> None:
        predictions = scrambled.predictions()
        predictions[0]["img_id"] = 123456
        with pytest.raises(ValueError, match=r"1 of 12 are not in .*both_scrambled.json, such as id 123456"):
            score(make(scrambled), predictions)

    def test_no_image_is_an_error(self, scrambled: World) -> None:
        metric = make(scrambled)
        metric.dataset_meta = META
        with pytest.raises(ValueError, match="at least one evaluated image. Got none"):
            metric.compute_metrics([])


def with_masks(predictions: list[dict]) -> list[dict]:
    for prediction in predictions:
        masks = np.zeros((len(prediction["labels"]), 300, 300), dtype=bool)
        for mask, (x1, y1, x2, y2) in zip(masks, prediction["bboxes"].round().astype(int), strict=True):
            mask[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = True
        prediction["masks"] = masks
        prediction["bboxes"] = np.zeros_like(prediction["bboxes"])  # boxes must play no part in mask AP
    return predictions


def test_masks_equal_pycocotools(scrambled: World) -> None:
    predictions = with_masks(scrambled.predictions())
    rows = []
    for p in predictions:
        encoded = mask_api.encode(np.asfortranarray(p["masks"].transpose(1, 2, 0)).astype(np.uint8))
        for label, value, rle in zip(p["labels"], p["scores"], encoded, strict=True):
            category_id = scrambled.ids[META["classes"][label]]
            rows.append(
                {"image_id": p["img_id"], "category_id": category_id, "score": float(value), "segmentation": rle}
            )
    metric = make(scrambled, metric="segm")
    scores = score(metric, predictions)
    for group, names in (("base", BASE), ("novel", NOVEL), ("all", BASE + NOVEL)):
        assert scores[f"{group}_ap"] == pytest.approx(reference(scrambled, names, segm=rows)[0], abs=1e-6)
    expected = reference(scrambled, BASE + NOVEL, segm=rows)
    assert scores["segm_mAP_m"] == pytest.approx(expected[4], abs=1e-6)  # by the area of the mask
    assert metric.table.details["ap_of"] == "segm"


class TestItems:
    def test_equal_pycocotools_twelve(self, scrambled: World) -> None:
        items = ["mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l", "AR@1", "AR@10", "AR@100"]
        items += ["AR_s@100", "AR_m@100", "AR_l@100"]
        scores = score(make(scrambled, metric_items=items, proposal_nums=(1, 10, 100)), scrambled.predictions())
        expected = reference(scrambled, BASE + NOVEL)
        assert [scores[f"bbox_{item}"] for item in items] == pytest.approx(list(expected), abs=1e-6)

    def test_one_threshold_is_enough_for_ap50(self, scrambled: World) -> None:
        scores = score(make(scrambled, iou_thrs=0.5, proposal_nums=[100]), scrambled.predictions())
        assert scores["base_ap50"] == scores["base_ap"] == pytest.approx(reference(scrambled, BASE)[1], abs=1e-6)
        assert scores["bbox_mAP_75"] == -1

    def test_class_by_class(self, scrambled: World, logged: list[str]) -> None:
        metric = make(scrambled, classwise=True)
        scores = score(metric, scrambled.predictions())
        for name in BASE + NOVEL:
            expected = reference(scrambled, (name,))
            assert scores[f"{name}_precision"] == pytest.approx(expected[0], abs=1e-6)
            assert metric.table.details["per_class"][name]["ap50"] == pytest.approx(expected[1] * 100, abs=1e-4)
        assert any(line.startswith("AP50 and AP by class:\nzebra: ") for line in logged)

    def test_format_only_writes_category_ids_by_name(self, scrambled: World, tmp_path: Path) -> None:
        metric = make(scrambled, format_only=True, outfile_prefix=str(tmp_path / "out" / "found"))
        assert score(metric, scrambled.predictions()) == {} and metric.table is None
        rows = json.loads((tmp_path / "out" / "found.bbox.json").read_text())
        wanted = [(i, scrambled.ids[name]) for i, name, _, _ in scrambled.found]
        assert sorted((row["image_id"], row["category_id"]) for row in rows) == sorted(wanted)


class TestTable:
    def test_says_what_the_numbers_mean(self, scrambled: World, logged: list[str]) -> None:
        metric = make(scrambled)
        assert metric.table is None
        scores = score(metric, scrambled.predictions())
        table = metric.table
        assert (table.protocol, table.label_space, table.images) == (PROTOCOL, "8 names (5 base + 3 novel)", 12)
        assert table.annotation_file == str(scrambled.path) and len(table.annotation_sha256) == 64
        assert (
            table.groups["novel"]["ap50"] == pytest.approx(100 * scores["novel_ap50"])
            and table.groups["all"]["classes"] == 8
        )
        assert any(table.to_text() in line for line in logged)

    def test_is_none_after_a_failure(self, scrambled: World) -> None:
        metric = make(scrambled)
        score(metric, scrambled.predictions())
        with pytest.raises(ValueError, match="in the data set's metainfo"):
            score(metric, scrambled.predictions(), {"classes": BASE})
        assert metric.table is None


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"metric": ["bbox", "segm"]}, r"`metric` of OVDMetric must be 'bbox' or 'segm'. Got \['bbox', 'segm'\]"),
        ({"metric": "proposal"}, "`metric` of OVDMetric must be 'bbox' or 'segm'. Got 'proposal'"),
        ({"iou_thrs": [0.75]}, r"`iou_thrs` of OVDMetric must hold 0.5, for AP50. Got \[0.75\]"),
        ({"protocol": " "}, "`protocol` of OVDMetric must be a non-empty string, .* Got ' '"),
        ({"ann_file": None}, "`ann_file` of OVDMetric must be a non-empty string, .* Got None"),
        ({"metric_items": ["mAP_99"]}, "`metric_items` of OVDMetric may hold mAP, .* Got 'mAP_99'"),
        ({"metric_items": ["AR@5"]}, r"\(100, 300, 1000\). Got 'AR@5'"),
    ],
)
def test_arguments_are_checked_before_anything_runs(scrambled: World, kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OVDMetric(**({"ann_file": str(scrambled.path), "protocol": PROTOCOL} | kwargs))


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"classes": BASE}, r"needs base_classes, novel_classes in the data set's metainfo. Got \['classes'\]"),
        (META | {"novel_classes": ("bee",)}, "must be either base or novel. Got yak, newt in neither or both"),
        (META | {"novel_classes": (*NOVEL, "ant")}, "Got ant in neither or both"),
        (
            META | {"classes": (*NOVEL, "gnu"), "base_classes": ("gnu",)},
            "Missing: gnu. It has 10 categories; .*: ant, crab, fox, mule, owl",
        ),
        (META | {"classes": BASE}, r"labels must be in \[0, 4\], for 5 classes. Got 0 to 7"),
    ],
)
def test_classes_are_checked(scrambled: World, meta: dict, message: str) -> None:
    content = json.loads(scrambled.path.read_text())
    content["categories"].sort(key=lambda category: category["name"])
    scrambled.path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        score(make(scrambled), scrambled.predictions(), meta)


def test_masks_are_needed_for_mask_ap(scrambled: World) -> None:
    with pytest.raises(ValueError, match="`metric` of OVDMetric is 'segm', but the model predicts no masks"):
        score(make(scrambled, metric="segm"), scrambled.predictions())


def test_builds_from_a_config(scrambled: World) -> None:
    metric = METRICS.build({"type": "subpt_dense.OVDMetric", "ann_file": str(scrambled.path), "protocol": PROTOCOL})
    assert isinstance(metric, OVDMetric) and set(OTHER).isdisjoint(META["classes"])
