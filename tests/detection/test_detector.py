"""mmdet's own two-stage detector with text rows in place of its classifier."""

import copy
import io
from unittest import mock

import pytest
import torch

from subpt_dense.detection import OVTwoStageDetector
from subpt_dense.heads import TextClassifier
from subpt_dense.prompts import context, template
from tests.detection.toy_detector import ALL, BASE, batch, build_detector, detector_config

LOSSES = {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "acc"}
HEADS = {"template": set(), "coop": set(), "subpt_nfl": {"loss_nfl"}}


@pytest.fixture(scope="module")
def frozen(toy_clip):
    """A detector that tests here may change the vocabulary of, and nothing else."""
    return build_detector(toy_clip)


def classifier(model) -> TextClassifier:
    return model.roi_head.bbox_head.fc_cls


def total(losses) -> torch.Tensor:
    return sum(sum(value) if isinstance(value, list) else value for name, value in losses.items() if "loss" in name)


@pytest.mark.parametrize("head", HEADS)
def test_losses_and_gradients(toy_clip, head):
    model = build_detector(toy_clip, head).train()
    losses = model.loss(*batch())
    assert {*losses} == LOSSES | HEADS[head]
    total(losses).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert idle == []  # DDP would otherwise need find_unused_parameters
    if head != "template":
        assert model.prompt.context.grad.abs().sum() > 0
    assert {*model.prompt.prompt_parameters()} == (set() if head == "template" else {"context"})


def test_the_detection_loss_alone_reaches_the_context(toy_clip):
    model = build_detector(toy_clip, "coop").train()
    model.loss(*batch())["loss_cls"].backward()
    assert model.prompt.context.grad.abs().sum() > 0
    assert model.rpn_head.rpn_cls.weight.grad is None


@pytest.mark.parametrize("vocabulary", [BASE, ALL], ids=len)
def test_class_counts_follow_the_vocabulary(frozen, vocabulary):
    frozen.set_vocabulary(vocabulary)
    head, k = frozen.roi_head.bbox_head, len(vocabulary)
    assert head.num_classes == k and frozen.rpn_head.num_classes == 1
    frozen.train()
    frozen.loss(*batch(labels=tuple(range(k))))
    assert classifier(frozen).rows.shape == (k, 64)
    assert classifier(frozen)(torch.zeros(3, 256)).shape == (3, k + 1)
    with torch.no_grad():
        (first, second) = frozen.eval().predict(*batch())
    found = torch.cat([first.pred_instances.labels, second.pred_instances.labels])
    assert len(found) and found.max() < k


def test_every_class_of_the_vocabulary_can_be_predicted(frozen):
    frozen.set_vocabulary(ALL)
    with torch.no_grad():
        (sample,) = frozen.eval().predict(*batch(images=1))
    assert {*sample.pred_instances.labels.tolist()} == {0, 1, 2}
    assert all(0 <= score <= 1 for score in sample.pred_instances.scores)


def test_novel_names_add_scores_and_change_no_box(frozen):
    """The base logits are the same under either vocabulary: a novel name is a row more, and nothing else."""
    features = torch.randn(5, 256, generator=torch.Generator().manual_seed(0))
    logits = {}
    for vocabulary in (BASE, ALL):
        frozen.eval().set_vocabulary(vocabulary)
        frozen.hand_out_rows()
        logits[vocabulary] = classifier(frozen)(features)
    torch.testing.assert_close(logits[ALL][:, [0, 1, 3]], logits[BASE])


def test_a_vocabulary_in_another_order_permutes_the_labels(frozen):
    def logits(names):
        frozen.eval().set_vocabulary(names)
        frozen.hand_out_rows()
        return classifier(frozen)(torch.ones(2, 256))

    torch.testing.assert_close(logits(ALL[::-1]), logits(ALL)[:, [2, 1, 0, 3]])


@pytest.mark.parametrize("head", ["coop", "subpt_nfl"])
def test_one_encode_a_step_in_training(toy_clip, head):
    model = build_detector(toy_clip, head).train()
    with mock.patch.object(context, "encode_context", wraps=context.encode_context) as encode:
        for step in (1, 2):
            model.loss(*batch())
            assert encode.call_count == step
        model.eval()
        with torch.no_grad():
            model.predict(*batch())
            model.predict(*batch())
    assert encode.call_count == 3  # at test time once, then kept


def test_frozen_rows_are_encoded_once(toy_clip):
    model = build_detector(toy_clip)
    with mock.patch.object(template, "encode_templates", wraps=template.encode_templates) as encode, torch.no_grad():
        model.train().loss(*batch())
        model.eval().predict(*batch())
        model.predict(*batch())
        assert encode.call_count == 1
        model.set_vocabulary(ALL)
        model.predict(*batch())
    assert encode.call_count == 2


def test_no_boxes_at_all(toy_clip):
    model = build_detector(toy_clip, "coop").train()
    losses = model.loss(*batch(labels=()))
    assert torch.isfinite(total(losses))
    total(losses).backward()


def test_tensor_mode(frozen):
    frozen.set_vocabulary(ALL)
    with torch.no_grad():
        results = frozen.eval()(*batch(), mode="tensor")
    assert results[-1][0].shape[-1] == len(ALL) + 1  # class scores, then boxes


def test_without_a_vocabulary(toy_clip):
    torch.manual_seed(0)
    model = OVTwoStageDetector(**{k: v for k, v in detector_config(toy_clip).items() if k != "type"})
    with pytest.raises(RuntimeError, match="`vocabulary` of TemplatePrompt is not set"):
        model.loss(*batch())


# ---- building --------------------------------------------------------------------------------------------------------


def test_initialisation_leaves_the_trunk_and_the_classifier_alone(toy_clip):
    model = build_detector(toy_clip)
    stored = torch.load(toy_clip, weights_only=True)
    trunk = model.backbone.trunk.state_dict()
    assert trunk and all(torch.equal(value, stored[f"visual.trunk.{name}"]) for name, value in trunk.items())
    head = classifier(model)
    bound = (6 / (256 + 64)) ** 0.5  # Xavier's; the host would have drawn N(0, 0.01)
    assert 0.9 * bound < head.projection.weight.abs().max() <= bound
    assert head.background.norm().item() == pytest.approx(1, abs=0.3)


def test_masks_per_class_are_refused(toy_clip):
    mask_head = {"type": "mmdet.FCNMaskHead", "num_convs": 1, "in_channels": 128, "num_classes": 5}
    mask_head["loss_mask"] = {"type": "mmdet.CrossEntropyLoss", "use_mask": True}
    with pytest.raises(ValueError, match=r"`class_agnostic` of roi_head\.mask_head must be True.*Got False"):
        build_detector(toy_clip, **{"model.roi_head.mask_head": mask_head})


def test_boxes_per_class_are_refused(toy_clip):
    with pytest.raises(ValueError, match=r"`reg_class_agnostic` of roi_head\.bbox_head must be True.*Got False"):
        build_detector(toy_clip, **{"model.roi_head.bbox_head.reg_class_agnostic": False})


def test_a_host_without_a_text_classifier_is_told_so(toy_clip):
    linear = {"type": "mmdet.Linear", "_delete_": True}
    model = build_detector(toy_clip, **{"model.roi_head.bbox_head.cls_predictor_cfg": linear})
    with pytest.raises(RuntimeError, match="Nothing adapted: no module of OVTwoStageDetector takes rows"):
        model.loss(*batch())


def cascade_config(clip):
    """The same detector with two stages that share the rows."""
    cfg = detector_config(clip)
    head = cfg.roi_head.bbox_head
    cfg.roi_head = {**cfg.roi_head, "type": "mmdet.CascadeRoIHead", "num_stages": 2, "stage_loss_weights": [1, 0.5]}
    cfg.roi_head.bbox_head = [copy.deepcopy(head), copy.deepcopy(head)]
    cfg.train_cfg.rcnn = [copy.deepcopy(cfg.train_cfg.rcnn) for _ in range(2)]
    return cfg


def test_every_stage_of_a_cascade_gets_the_rows(toy_clip):
    torch.manual_seed(0)
    model = OVTwoStageDetector(**{k: v for k, v in cascade_config(toy_clip).items() if k != "type"})
    model.init_weights()
    model.set_vocabulary(ALL)
    losses = model.train().loss(*batch(labels=(0, 2)))
    assert {"s0.loss_cls", "s1.loss_cls"} <= {*losses} and torch.isfinite(total(losses))
    first, second = (head.fc_cls for head in model.roi_head.bbox_head)
    assert first.rows is second.rows and first.rows.shape == (3, 64)
    assert [head.num_classes for head in model.roi_head.bbox_head] == [3, 3]
    with torch.no_grad():
        (sample,) = model.eval().predict(*batch(images=1))
    assert sample.pred_instances.labels.max() < 3


# ---- copies and files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["template", "coop"])
def test_state_dict_holds_neither_rows_nor_text_tower(toy_clip, head):
    model = build_detector(toy_clip, head)
    model.train().loss(*batch())
    model.eval().predict(*batch())
    state = model.state_dict()
    parts = {key.split(".")[0] for key in state}
    assert parts == {"backbone", "rpn_head", "roi_head"} | (set() if head == "template" else {"prompt"})
    assert not [key for key in state if "rows" in key or "token" in key or "transformer" in key]
    assert [key for key in state if key.startswith("prompt")] == (
        [] if head == "template" else ["prompt.context", "prompt.initial_context"]
    )
    # No tensor's shape depends on K: a detector trained with 48 names is tested with 65.
    wider = build_detector(toy_clip, head, ALL).state_dict()
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in wider.items()}
    file = io.BytesIO()
    torch.save(state, file)
    assert file.tell() < 15e6


def test_a_copy_in_the_middle_of_training_is_independent(toy_clip):
    model = build_detector(toy_clip, "coop").train()
    losses = model.loss(*batch())
    twin = copy.deepcopy(model)
    assert twin.prompt is not model.prompt and torch.equal(twin.prompt.context, model.prompt.context)
    with torch.no_grad():
        twin.prompt.context.add_(1)
    total(losses).backward()
    assert model.prompt.context.grad is not None and twin.prompt.context.grad is None
    twin.set_vocabulary(ALL)
    assert model.prompt.vocabulary == BASE and model.roi_head.bbox_head.num_classes == 2


def test_weights_saved_under_one_vocabulary_serve_another(toy_clip):
    model, other = build_detector(toy_clip).eval(), build_detector(toy_clip, vocabulary=ALL).eval()
    with torch.no_grad():
        for parameter in model.roi_head.parameters():
            parameter.add_(0.01)
        missing = other.load_state_dict(model.state_dict(), strict=True)
        assert not missing.missing_keys and not missing.unexpected_keys
        model.set_vocabulary(ALL)
        a, b = (m.predict(*batch(images=1))[0].pred_instances for m in (model, other))
    assert torch.equal(a.labels, b.labels) and torch.equal(a.scores, b.scores)
