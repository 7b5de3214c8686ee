"""The shipped F-VLM detector on a tiny CLIP: what learns, what does not, and whose scores come out."""

import copy

import pytest
import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch.nn.functional import log_softmax

from subpt_dense.detection import FVLMDetector
from subpt_dense.detection.frozen_trunk import _digest, get_trunk
from subpt_dense.registry import MODELS
from tests.detection.fvlm_model import ALL, BASE, build_fvlm, fvlm_config, write_conv_clip
from tests.detection.toy_detector import batch, detector_config

LOSSES = {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "acc"}


@pytest.fixture(scope="module")
def conv_clip(tmp_path_factory) -> dict[str, str]:
    return write_conv_clip(tmp_path_factory.mktemp("fvlm"), "resnet")


@pytest.fixture(scope="module")
def frozen(conv_clip) -> FVLMDetector:
    """A detector in eval mode that tests here leave as it is."""
    return build_fvlm(conv_clip, vocabulary=ALL).eval()


def total(losses) -> torch.Tensor:
    return sum(sum(value) if isinstance(value, list) else value for name, value in losses.items() if "loss" in name)


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["template", "coop", "subpt_nfl"])
def test_losses_and_gradients(conv_clip, head):
    model = build_fvlm(conv_clip, head).train()
    losses = model.loss(*batch())
    assert {*losses} == LOSSES | ({"loss_nfl"} if "nfl" in head else set())
    total(losses).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert idle == []  # DDP would otherwise need find_unused_parameters
    if head != "template":
        assert model.prompt.context.grad.abs().sum() > 0


def test_training_steps_leave_the_trunk_as_it_is(conv_clip):
    model = build_fvlm(conv_clip, "coop").train()
    trunk = get_trunk(model.backbone.key, "cpu")
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        total(model.loss(*batch())).backward()
        optimizer.step()
    assert _digest(trunk._visual) == model.backbone.key.weights_hash  # running statistics included
    after = model.state_dict()
    assert not torch.equal(after["prompt.context"], before["prompt.context"])
    assert not torch.equal(after["neck.fpn_convs.0.conv.weight"], before["neck.fpn_convs.0.conv.weight"])
    assert {key for key in after if key.startswith("backbone")} == {"backbone.weights_sha256"}


def test_losses_are_the_detector_s_own_in_either_mode(conv_clip):
    """The frozen model has no word in a loss, nor does a map left over from a prediction."""
    model = build_fvlm(conv_clip).eval()
    found = []
    for temperature in (0.01, 1.0):
        model.roi_head.fusion.temperature = temperature
        torch.manual_seed(0)
        model.predict(*batch())
        torch.manual_seed(0)
        found.append(model.loss(*batch())["loss_cls"])
    assert torch.equal(*found)


def test_no_boxes_at_all(conv_clip):
    model = build_fvlm(conv_clip, "coop").train()
    losses = model.loss(*batch(labels=()))
    assert torch.isfinite(total(losses))
    total(losses).backward()


def test_a_step_in_half_precision(conv_clip):
    model = build_fvlm(conv_clip, "coop").train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.loss(*batch())
    assert torch.isfinite(total(losses))
    total(losses).backward()
    assert torch.isfinite(model.prompt.context.grad).all()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        (sample,) = model.eval().predict(*batch(images=1))
    assert len(sample.pred_instances) and torch.isfinite(sample.pred_instances.scores).all()


# ---- scores ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_scores_are_the_fused_ones(frozen):
    """From proposals to scores once more, step by step: cosines of regions cut from the trunk's map, then the mean."""
    inputs, samples = batch()
    frozen.hand_out_rows()
    x = frozen.extract_feat(inputs)
    regions = frozen.roi_head._regions.get()
    rois = bbox2roi([found.bboxes for found in frozen.rpn_head.predict(x, samples, rescale=False)])
    fused = frozen.roi_head._bbox_forward(x, rois)["cls_score"].exp()

    det = StandardRoIHead._bbox_forward(frozen.roi_head, x, rois)["cls_score"].softmax(dim=1)
    texts = torch.cat([frozen.prompt(), regions.trunk.background[None]])
    vlm = (regions.embed(rois) @ texts.T / 0.01).softmax(dim=1)[:, :3]
    weights = torch.tensor([0.35, 0.35, 0.65])  # the third name is novel
    scores = torch.cat([det[:, :3] ** (1 - weights) * vlm**weights, det[:, 3:]], dim=1)
    torch.testing.assert_close(fused, scores / scores.sum(dim=1, keepdim=True), atol=1e-5, rtol=1e-3)
    frozen.roi_head._regions.take()


@torch.no_grad()
def test_weight_zero_is_the_host_s_detector(conv_clip):
    options = {f"model.roi_head.fusion.w_{group}": 0.0 for group in ("base", "novel")}
    model = build_fvlm(conv_clip, vocabulary=ALL, **options).eval()
    (found,) = model.predict(*batch(images=1))
    inputs, samples = batch(images=1)
    x = model.extract_feat(inputs)
    model.roi_head._regions.take()
    proposed = model.rpn_head.predict(x, samples, rescale=False)
    (expected,) = StandardRoIHead.predict(model.roi_head, x, proposed, samples, rescale=True)
    torch.testing.assert_close(found.pred_instances.scores, expected.scores, atol=1e-6, rtol=0)
    assert torch.equal(found.pred_instances.labels, expected.labels)


@torch.no_grad()
def test_groups_matter(conv_clip):
    model = build_fvlm(conv_clip, vocabulary=ALL).eval()
    scores = []
    for base in ([True] * 3, [False] * 3):
        model.roi_head.fusion.set_groups(torch.tensor(base))
        scores.append(model.predict(*batch(images=1))[0].pred_instances.scores)
    assert scores[0].shape != scores[1].shape or not torch.allclose(*scores)


@torch.no_grad()
def test_labels_and_scores_are_in_range(frozen):
    for sample in frozen.predict(*batch()):
        found = sample.pred_instances
        assert len(found) and found.labels.max() < 3
        assert ((found.scores >= 0) & (found.scores <= 1)).all()


@torch.no_grad()
def test_tensor_mode_gives_fused_scores(frozen):
    ((scores, boxes),) = frozen(*batch(), mode="tensor")
    assert scores.shape == (len(boxes), 4)
    torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(len(scores)))
    torch.testing.assert_close(log_softmax(scores, dim=1), scores)


@torch.no_grad()
def test_the_map_does_not_outlive_its_batch(frozen):
    frozen.predict(*batch())
    assert frozen.roi_head._regions.get() is None and frozen.backbone.take_regions() is None
    with pytest.raises(RuntimeError, match=r"no map of the frozen trunk.*`put_regions\(regions\)`"):
        frozen.roi_head.predict(None, [], [])


@torch.no_grad()
@pytest.mark.parametrize("empty", [(0, 1), (1,)], ids=["both images", "one image"])
def test_no_proposals(frozen, empty, monkeypatch):
    inputs, samples = batch()
    usual = frozen.rpn_head.predict

    def predict(*args, **kwargs):
        found = usual(*args, **kwargs)
        for index in empty:
            found[index] = InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0).long())
        return found

    monkeypatch.setattr(frozen.rpn_head, "predict", predict)
    results = frozen.predict(inputs, samples)
    assert [len(sample.pred_instances) == 0 for sample in results] == [index in empty for index in range(2)]


# ---- building --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_with_masks(conv_clip):
    model = build_fvlm(conv_clip, vocabulary=ALL, base="fvlm_mask_r50").eval()
    assert model.roi_head.bbox_head.num_classes == 3 and model.roi_head.mask_head.class_agnostic
    (sample,) = model.predict(*batch(images=1))
    assert sample.pred_instances.masks.shape == (len(sample.pred_instances), 64, 64)


def test_rows_of_another_clip_are_refused(conv_clip, tmp_path):
    other = write_conv_clip(tmp_path, "resnet", seed=1)
    with pytest.raises(ValueError, match=f"rows of the trunk's own CLIP, '{conv_clip['model']}'.*'{other['model']}'"):
        MODELS.build(fvlm_config(conv_clip, **{"model.language.text": other}))


def test_other_parts_are_refused(toy_clip, conv_clip):
    toy = detector_config(toy_clip)
    cfg = {key: value for key, value in toy.items() if key != "type"}
    with pytest.raises(TypeError, match="`backbone` of FVLMDetector must be a FrozenCLIPBackbone. Got CLIPTrunk"):
        FVLMDetector(**copy.deepcopy(cfg))
    sigmoid = {"model.roi_head.bbox_head.loss_cls.use_sigmoid": True}
    with pytest.raises(ValueError, match="`bbox_head.loss_cls` of FVLMRoIHead must be a softmax"):
        MODELS.build(fvlm_config(conv_clip, **sigmoid))


def test_weights_saved_under_one_vocabulary_serve_another(conv_clip):
    model, other = build_fvlm(conv_clip, "coop").eval(), build_fvlm(conv_clip, "coop", ALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
        other.load_state_dict(model.state_dict(), strict=True)
        model.set_vocabulary(ALL, base=BASE)
        a, b = (m.predict(*batch(images=1))[0].pred_instances for m in (model, other))
    assert torch.equal(a.labels, b.labels) and torch.equal(a.scores, b.scores)


@torch.no_grad()
def test_a_copy_predicts_the_same(frozen):
    twin = copy.deepcopy(frozen)
    a, b = (model.predict(*batch(images=1))[0].pred_instances for model in (frozen, twin))
    assert torch.equal(a.scores, b.scores) and torch.equal(a.bboxes, b.bboxes)
