"""ViLD in mmdet's RoI head: what each loss reaches, and what each mode scores."""

import copy
from pathlib import Path
from unittest import mock

import pytest
import torch
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.functional import normalize

from subpt_dense.detection import OVTwoStageDetector, ViLDRoIHead
from subpt_dense.registry import MODELS
from tests.detection.toy_detector import ALL, BASE, detector_config
from tests.detection.vild_detector import CLIP_FACTS, build_vild, vild_batch

LOSSES = {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask", "loss_distill", "acc"}
MODES = ("text", "image", "ensemble")


@pytest.fixture(scope="module")
def frozen(toy_clip: Path) -> OVTwoStageDetector:
    """A detector of which tests here change the mode and the vocabulary, and nothing else."""
    return build_vild(toy_clip)


def total(losses: dict) -> Tensor:
    return sum(sum(value) if isinstance(value, list) else value for name, value in losses.items() if "loss" in name)


def reached(model: torch.nn.Module) -> set[str]:
    """Parts with a gradient that is not zero, two names deep."""
    names = (name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0)
    return {".".join(name.split(".")[: 2 if name.startswith("roi_head") else 1]) for name in names}


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["template", "coop", "subpt_nfl"])
def test_losses_and_gradients(toy_clip: Path, head: str) -> None:
    model = build_vild(toy_clip, head).train()
    losses = model.loss(*vild_batch())
    assert {*losses} == LOSSES | ({"loss_nfl"} if "nfl" in head else set())
    total(losses).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []  # DDP needs all of them


def test_the_distillation_loss_by_hand(toy_clip: Path) -> None:
    model = build_vild(toy_clip).train()
    inputs, samples = vild_batch(regions=(5, 3))
    loss = model.loss(inputs, samples)["loss_distill"]
    head = model.roi_head
    features = head.bbox_roi_extractor(model.extract_feat(inputs), bbox2roi([s.regions.bboxes for s in samples]))
    targets = torch.cat([s.regions.embeddings for s in samples]).float()
    distances = (head.image_branch(features) - normalize(targets, dim=1)).abs().sum(dim=1)
    assert len(distances) == 8
    torch.testing.assert_close(loss, 0.5 * distances.mean())


def test_distillation_reaches_the_image_branch_and_the_trunk_alone(toy_clip: Path) -> None:
    model = build_vild(toy_clip, "coop").train()
    model.loss(*vild_batch())["loss_distill"].backward()
    assert reached(model) == {"backbone", "roi_head.image_branch"}
    assert model.prompt.context.grad is None


def test_detection_does_not_reach_the_image_branch(toy_clip: Path) -> None:
    model = build_vild(toy_clip, "coop").train()
    losses = model.loss(*vild_batch())
    total({name: loss for name, loss in losses.items() if name != "loss_distill"}).backward()
    assert reached(model) == {"backbone", "rpn_head", "roi_head.bbox_head", "roi_head.mask_head", "prompt"}


def test_the_other_losses_are_the_host_s_own(toy_clip: Path) -> None:
    model = build_vild(toy_clip).train()
    host = copy.deepcopy(model)
    host.roi_head.loss = lambda *args: super(ViLDRoIHead, host.roi_head).loss(*args)
    found = []
    for each in (model, host):
        torch.manual_seed(3)  # the samplers draw
        found.append(each.loss(*vild_batch()))
    for name in LOSSES - {"loss_distill", "loss_rpn_cls", "loss_rpn_bbox"}:
        assert torch.equal(found[0][name], found[1][name]), name


@pytest.mark.parametrize(
    ("labels", "regions"), [((0, 1), (5, 0)), ((0, 1), (0, 0)), ((), (5, 3)), ((), (0, 0))], ids=str
)
def test_empty_images(toy_clip: Path, labels: tuple[int, ...], regions: tuple[int, ...]) -> None:
    model = build_vild(toy_clip, "coop").train()
    losses = model.loss(*vild_batch(labels, regions))
    assert (losses["loss_distill"] == 0) == (sum(regions) == 0)
    assert torch.isfinite(total(losses))
    total(losses).backward()
    # Without a box the host's mask head has no graph to the trunk's features, but its parameters have one.
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_bfloat16_autocast(toy_clip: Path) -> None:
    model = build_vild(toy_clip, "coop").train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.loss(*vild_batch())
    assert losses["loss_distill"].dtype == losses["loss_cls"].dtype == torch.float32
    assert torch.isfinite(total(losses))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("absent", r"ViLDRoIHead needs the cached regions of every training image.*`subpt_dense.PackRegionInputs`"),
        ("other length", "embeddings of 64 numbers, `embed_dim` of the image branch. Got 512"),
        ("other weights", "of the CLIP that the rows come from.*weights: cache 'clip_seed1.pt', rows 'clip_seed0.pt'"),
        ("other backbone", "backbone: cache 'ViT-B-32', rows 'subpt-toy'"),
    ],
)
def test_regions_that_do_not_fit(toy_clip: Path, change: str, message: str) -> None:
    facts = {"other weights": {"weights": "clip_seed1.pt"}, "other backbone": {"backbone": "ViT-B-32"}}
    inputs, samples = vild_batch(clip_facts=CLIP_FACTS | facts.get(change, {}))
    if change == "absent":
        del samples[1].regions
    if change == "other length":
        for sample in samples:
            sample.regions = InstanceData(bboxes=sample.regions.bboxes, embeddings=torch.ones(len(sample.regions), 512))
    with pytest.raises(ValueError, match=message):
        build_vild(toy_clip).train().loss(inputs, samples)


# ---- testing ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def raw(model: OVTwoStageDetector, mode: str) -> list[InstanceData]:
    """Boxes ``[n, 4]`` and scores ``[n, K + 1]`` of two images before the suppression."""
    model.eval().roi_head.mode = mode
    inputs, samples = vild_batch()
    model.hand_out_rows()
    x = model.extract_feat(inputs)
    proposals = model.rpn_head.predict(x, samples, rescale=False)
    return model.roi_head.predict_bbox(x, [s.metainfo for s in samples], proposals, rcnn_test_cfg=None)


def test_scores_of_every_mode_by_hand(frozen: OVTwoStageDetector) -> None:
    frozen.set_vocabulary(ALL, base=BASE)
    text, image, ensemble = (raw(frozen, mode) for mode in MODES)
    inputs, samples = vild_batch()
    head = frozen.roi_head
    with torch.no_grad():
        x = frozen.extract_feat(inputs)
        proposals = frozen.rpn_head.predict(x, samples, rescale=False)
        features = head.bbox_roi_extractor(x, bbox2roi([p.bboxes for p in proposals]))
        logits, _ = head.bbox_head(features)
        cosines = head.image_branch(features) @ frozen.prompt().T
    expected = torch.softmax(logits, 1), torch.softmax(cosines / 0.04, 1)
    torch.testing.assert_close(torch.cat([r.scores for r in text]), expected[0])
    found = torch.cat([r.scores for r in image])
    torch.testing.assert_close(found[:, :-1], expected[1])
    t, i = expected[0][:, :-1], expected[1]
    fused = torch.cat([t[:, :2] ** (2 / 3) * i[:, :2] ** (1 / 3), t[:, 2:] ** (1 / 3) * i[:, 2:] ** (2 / 3)], dim=1)
    both = torch.cat([r.scores for r in ensemble])
    torch.testing.assert_close(both[:, :-1], fused)
    assert not found[:, -1].any() and not both[:, -1].any()  # no score for the background
    for boxes in zip(text, image, ensemble, strict=True):
        assert torch.equal(boxes[0].bboxes, boxes[1].bboxes) and torch.equal(boxes[0].bboxes, boxes[2].bboxes)


def test_the_groups_decide(frozen: OVTwoStageDetector) -> None:
    scores = {}
    for base in (BASE, ALL, ()):
        frozen.set_vocabulary(ALL, base=base)
        scores[base] = torch.cat([r.scores for r in raw(frozen, "ensemble")])
    torch.testing.assert_close(scores[BASE][:, :2], scores[ALL][:, :2])
    torch.testing.assert_close(scores[BASE][:, 2], scores[()][:, 2])  # a name that nobody called base is novel
    assert not torch.allclose(scores[ALL][:, 2], scores[()][:, 2])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("vocabulary", [BASE, ALL], ids=len)
def test_boxes_and_masks_in_every_mode(frozen: OVTwoStageDetector, mode: str, vocabulary: tuple[str, ...]) -> None:
    frozen.set_vocabulary(vocabulary, base=BASE)
    frozen.eval().roi_head.mode = mode
    with torch.no_grad():
        samples = frozen.predict(*vild_batch())
    for sample in samples:
        found = sample.pred_instances
        assert 0 < len(found) <= 50 and found.labels.max() < len(vocabulary)
        assert found.masks.shape == (len(found), 64, 64) and found.masks.dtype == torch.bool
        assert (found.scores[:-1] >= found.scores[1:]).all() and 0 < found.scores.min() <= found.scores.max() <= 1


def test_detections_are_the_raw_scores_after_suppression(frozen: OVTwoStageDetector) -> None:
    frozen.set_vocabulary(ALL, base=BASE)
    before = raw(frozen, "ensemble")
    frozen.roi_head.test_cfg.score_thr, kept = 0.05, frozen.roi_head.test_cfg.score_thr
    with torch.no_grad():
        after = frozen.predict(*vild_batch(), rescale=False)
    frozen.roi_head.test_cfg.score_thr = kept
    for raw_result, sample in zip(before, after, strict=True):
        found = sample.pred_instances
        assert len(found) and found.scores.min() > 0.05
        for box, score, label in zip(found.bboxes, found.scores, found.labels, strict=True):
            same = (raw_result.bboxes - box).abs().amax(dim=1) < 1e-4
            assert torch.isclose(raw_result.scores[same, label], score).any()


def test_text_mode_is_the_host_s_own_path(frozen: OVTwoStageDetector) -> None:
    frozen.set_vocabulary(ALL)  # nobody says which are base: this mode does not ask
    frozen.eval().roi_head.mode = "text"
    with torch.no_grad(), mock.patch.object(frozen.roi_head.image_branch, "forward") as branch:
        frozen.predict(*vild_batch())
    assert not branch.called


@pytest.mark.parametrize("mode", MODES)
def test_no_proposals(frozen: OVTwoStageDetector, mode: str) -> None:
    frozen.set_vocabulary(ALL, base=BASE)
    frozen.eval().roi_head.mode = mode
    none, two = InstanceData(bboxes=torch.zeros(0, 4)), InstanceData(bboxes=torch.tensor([[4.0, 4, 30, 30]] * 2))
    inputs, samples = vild_batch()
    for proposals in ([none, none], [none, two], [two, none]):
        with torch.no_grad(), mock.patch.object(frozen.rpn_head, "predict", return_value=copy.deepcopy(proposals)):
            found = frozen.predict(inputs, samples)
        for sample, given in zip(found, proposals, strict=True):
            instances = sample.pred_instances
            assert (len(instances) > 0) == (len(given) > 0)
            assert instances.masks.shape == (len(instances), 64, 64)


def test_one_checkpoint_serves_every_mode(toy_clip: Path) -> None:
    config = detector_config(toy_clip, "vild_template").roi_head
    heads = {mode: MODELS.build({**config, "mode": mode}) for mode in MODES}
    assert [head.mode for head in heads.values()] == [*MODES]
    keys = [{key: value.shape for key, value in head.state_dict().items()} for head in heads.values()]
    assert keys[0] == keys[1] == keys[2]
    assert not [key for key in keys[0] if "rows" in key or "base" in key.split(".")]
    assert not heads["image"].load_state_dict(heads["text"].state_dict(), strict=True).missing_keys


def test_unknown_groups_are_told_in_the_ensemble_alone(frozen: OVTwoStageDetector) -> None:
    frozen.set_vocabulary(ALL, base=BASE)
    with mock.patch.object(frozen.roi_head, "_base", None):
        raw(frozen, "image")
        with pytest.raises(
            RuntimeError, match="must know which of the 3 names are base. Got nothing: call `model.set_"
        ):
            raw(frozen, "ensemble")
    frozen.roi_head.set_groups(torch.ones(2, dtype=torch.bool))
    with pytest.raises(RuntimeError, match="which of the 3 names are base. Got the groups of 2"):
        raw(frozen, "ensemble")


def test_a_copy_knows_the_groups(frozen: OVTwoStageDetector) -> None:
    frozen.set_vocabulary(ALL, base=BASE)
    twin = copy.deepcopy(frozen)
    torch.testing.assert_close(raw(twin, "ensemble")[0].scores, raw(frozen, "ensemble")[0].scores)


# ---- building --------------------------------------------------------------------------------------------------------


def test_initialisation_leaves_the_image_branch_alone(toy_clip: Path) -> None:
    """mmdet's box head draws anew what is nested in it; the branch stands beside it."""
    model = build_vild(toy_clip)
    first = model.roi_head.image_branch.fcs[0].weight
    bound = (6 / (128 * 49 + 256)) ** 0.5
    assert 0.9 * bound < first.abs().max() <= bound
    assert len([m for m in model.modules() if type(m).__name__ == "ImageBranch"]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "both"}, "`mode` of ViLDRoIHead must be one of 'text', 'image', 'ensemble'. Got 'both'"),
        ({"base_weight": 2}, r"`base_weight` of ViLDRoIHead must be in \[0, 1\]. Got 2"),
        ({"novel_weight": -1}, r"`novel_weight` of ViLDRoIHead must be in \[0, 1\]. Got -1"),
    ],
)
def test_arguments_that_are_refused(toy_clip: Path, change: dict, message: str) -> None:
    config = detector_config(toy_clip, "vild_template").roi_head
    with pytest.raises(ValueError, match=message):
        MODELS.build({**config, **change})


def cascade(clip: Path, head: str) -> OVTwoStageDetector:
    """The toy detector with masks and two box stages."""
    cfg = detector_config(clip, f"vild_{head}")
    roi = {k: v for k, v in cfg.roi_head.items() if k not in ("mode", "image_branch", "distillation")}
    roi |= {"type": "mmdet.CascadeRoIHead", "num_stages": 2, "stage_loss_weights": [1, 0.5]}
    roi |= {key: [copy.deepcopy(roi[key]) for _ in range(2)] for key in ("bbox_head", "mask_head")}
    cfg.roi_head = roi
    cfg.train_cfg.rcnn = [copy.deepcopy(cfg.train_cfg.rcnn) for _ in range(2)]
    torch.manual_seed(0)
    model = OVTwoStageDetector(**{k: v for k, v in cfg.items() if k != "type"})
    model.init_weights()
    model.set_vocabulary(BASE, base=BASE)
    return model


def test_a_cascade_trains_a_step_through_the_same_predictor(toy_clip: Path) -> None:
    model = cascade(toy_clip, "coop").train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = model.prompt.context.detach().clone()
    losses = model.loss(*vild_batch())
    assert {f"s{i}.loss_{kind}" for i in (0, 1) for kind in ("cls", "bbox", "mask")} <= {*losses}
    total(losses).backward()
    first, second = (stage.fc_cls for stage in model.roi_head.bbox_head)
    assert first.rows is second.rows
    assert all(stage.background.grad.abs().sum() > 0 for stage in (first, second))
    optimizer.step()
    assert not torch.equal(model.prompt.context, before)
    model.eval().set_vocabulary(ALL, base=BASE)
    with torch.no_grad():
        samples = model.predict(*vild_batch())
    assert all(sample.pred_instances.masks.shape[1:] == (64, 64) for sample in samples)
