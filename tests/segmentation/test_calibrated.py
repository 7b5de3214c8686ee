"""Gamma of the heads that classify masks: off the seen classes' scores, in testing alone."""

import pytest
import torch

from tests.segmentation import san_model, two_stage_model
from tests.segmentation.san_model import ALL, SEEN, pictures, write_vit_clip

GAMMA = 0.25
KINDS = ("two_stage", "san")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_vit_clip(tmp_path_factory.mktemp("vit_clip"))


def build(kind, clip, gamma=0.0, prompt="TemplatePrompt"):
    if kind == "san":
        return san_model.build_san(clip, prompt, **{"decode_head.gamma": gamma})
    return two_stage_model.build_two_stage(clip, prompt, gamma=gamma)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_seen_classes_lose_it_in_every_pixel(clip, kind, mode):
    scores = []
    for gamma in (0.0, GAMMA):
        model = build(kind, clip, gamma).eval()
        if mode == "slide":
            model.test_cfg = {"mode": "slide", "crop_size": (64, 64), "stride": (32, 32), "batch": 2}
            model.test_cfg = type(model.decode_head.train_cfg)(model.test_cfg)
        model.set_vocabulary(ALL, base=SEEN)
        with torch.no_grad():
            samples = model.predict(*pictures(side=96))
        assert [sample.metainfo["gamma"] for sample in samples] == [gamma, gamma]
        scores.append(torch.stack([sample.seg_logits.data for sample in samples]))
        best = torch.stack([sample.pred_sem_seg.data[0] for sample in samples])
        assert torch.equal(best, scores[-1].argmax(1))
    expected = torch.tensor([GAMMA if name in SEEN else 0.0 for name in ALL])
    torch.testing.assert_close(scores[0] - scores[1], expected[:, None, None].expand_as(scores[0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_training_knows_nothing_of_it(clip, kind):
    found = []
    for gamma in (0.0, GAMMA):
        model = build(kind, clip, gamma, "ContextPrompt").train()
        torch.manual_seed(0)
        found.append(model.loss(*pictures()))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("kind", KINDS)
def test_it_needs_groups_of_this_vocabulary(clip, kind):
    model = build(kind, clip, GAMMA).eval()
    head = model.decode_head
    scores = torch.zeros(1, 3, 4, 4)
    with pytest.raises(RuntimeError, match=rf"`gamma` of {type(head).__name__} needs .* 3 classes.*Got groups of 2"):
        head.lower_seen(scores)
    head._base = None
    with pytest.raises(RuntimeError, match="Got none: call `set_groups"):
        head.lower_seen(scores)
    head.gamma = 0.0
    assert head.lower_seen(scores) is scores


@pytest.mark.parametrize("kind", KINDS)
def test_names_without_groups_are_unseen(clip, kind):
    model = build(kind, clip, GAMMA)
    model.set_vocabulary(ALL)
    assert model.decode_head._base.tolist() == [False] * 3
    model.set_vocabulary(ALL, base=SEEN)
    assert model.decode_head._base.tolist() == [True, True, False]
    assert not [key for key in model.state_dict() if "base" in key or "gamma" in key]
