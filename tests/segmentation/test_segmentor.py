"""mmseg's encoder-decoder with text rows: names in, class maps out, and a real run from training to test."""

import copy
import io
from unittest import mock

import pytest
import torch
from torch.nn.functional import interpolate, normalize

from subpt_dense.prompts import context
from subpt_dense.registry import MODELS
from subpt_dense.segmentation import OVSegmentor
from tests.segmentation.dense_model import (
    ALL,
    COOP,
    NFL,
    SEEN,
    TEMPLATE,
    batch,
    build_segmentor,
    make_runner,
    scenes_config,
    segmentor_config,
    write_scenes,
)
from tests.vision.image_clips import write_image_clip

HEADS = {"template": (TEMPLATE, set()), "coop": (COOP, set()), "nfl": (NFL, {"loss_nfl"})}
LOSSES = {"decode.loss_ce", "decode.acc_seg"}


@pytest.fixture(scope="module")
def frozen(dense_clip) -> OVSegmentor:
    """A segmentor that tests here may change the vocabulary of, and nothing else."""
    return build_segmentor(dense_clip)


@pytest.mark.parametrize("head", HEADS)
def test_losses_and_gradients(dense_clip, head):
    prompt, more = HEADS[head]
    model = build_segmentor(dense_clip, prompt, SEEN).train()
    losses = model.loss(*batch())
    assert {name.replace("loss_anchor", "loss_nfl") for name in losses} == LOSSES | more
    assert [*model.prompt.prompt_parameters()] == (["context"] if head != "template" else [])
    if head != "template":
        losses["decode.loss_ce"].backward()
        assert model.prompt.context.grad.abs().sum() > 0
        assert [name for name, _ in model.named_parameters()] == ["prompt.context"]


def test_class_maps_are_the_best_cosines(frozen, dense_clip):
    frozen.set_vocabulary(ALL, base=SEEN)
    images, samples = batch(2, (64, 96))
    with torch.no_grad():
        found = frozen.eval().predict(images, samples)
        (features,) = frozen.backbone(images)
        rows = frozen.prompt()
    logits = frozen.backbone.scale * torch.einsum("bdhw,kd->bkhw", normalize(features, dim=1), rows)
    logits = interpolate(logits, size=(64, 96), mode="bilinear", align_corners=False)
    for one, expected in zip(found, logits, strict=True):
        torch.testing.assert_close(one.seg_logits.data, expected, atol=1e-4, rtol=1e-5)
        assert torch.equal(one.pred_sem_seg.data[0], one.seg_logits.data.argmax(0))


@pytest.mark.parametrize("vocabulary", [SEEN, ALL], ids=len)
def test_class_counts_follow_the_vocabulary(frozen, vocabulary):
    frozen.set_vocabulary(vocabulary, base=SEEN)
    count = len(vocabulary)
    assert {frozen.num_classes, frozen.out_channels, frozen.decode_head.num_classes} == {count}
    assert frozen.decode_head.out_channels == count
    with torch.no_grad():
        (sample,) = frozen.eval().predict(*batch(1))
    assert sample.seg_logits.data.shape == (count, 64, 96) and sample.pred_sem_seg.data.max() < count


def test_a_vocabulary_in_another_order_permutes_the_logits(frozen):
    def logits(names):
        frozen.eval().set_vocabulary(names, base=SEEN)
        with torch.no_grad():
            return frozen(*batch(1), mode="tensor")

    torch.testing.assert_close(logits(ALL[::-1]), logits(ALL).flip(1))


def test_groups_reach_the_head(dense_clip):
    model = build_segmentor(dense_clip, **{"decode_head.gamma": 0.5}).eval()
    with torch.no_grad():
        low = model(*batch(1), mode="tensor")
        model.decode_head.gamma = 0
        plain = model(*batch(1), mode="tensor")
    drop = (plain - low).mean((0, 2, 3))
    torch.testing.assert_close(drop, torch.tensor([0.5, 0.0, 0.5, 0.5]), atol=1e-4, rtol=0)


def test_samples_say_with_which_gamma_they_were_made(dense_clip):
    model = build_segmentor(dense_clip, **{"decode_head.gamma": 0.5}).eval()
    with torch.no_grad():
        assert [sample.metainfo["gamma"] for sample in model.predict(*batch(2))] == [0.5, 0.5]


def test_one_encode_a_step_in_training_and_one_for_all_tests(dense_clip):
    model = build_segmentor(dense_clip, COOP).train()
    with mock.patch.object(context, "encode_context", wraps=context.encode_context) as encode:
        for step in (1, 2):
            model.loss(*batch(classes=4))
            assert encode.call_count == step
        model.eval()
        with torch.no_grad():
            model.predict(*batch())
            model.predict(*batch())
    assert encode.call_count == 3


def test_without_samples(frozen):
    frozen.set_vocabulary(ALL, base=SEEN)
    with torch.no_grad():
        (found,) = frozen.eval().predict(batch(1)[0])
    assert found.pred_sem_seg.data.shape == (1, 64, 96)


def test_padding_is_cut_off(frozen):
    """A picture of 40 x 50 is padded to whole patches; the class map has the picture's size."""
    frozen.set_vocabulary(ALL, base=SEEN)
    picture, (sample,) = torch.randint(0, 255, (3, 40, 50), dtype=torch.uint8), batch(1)[1]
    sample.set_metainfo({"img_shape": (40, 50), "ori_shape": (40, 50)})
    with torch.no_grad():
        (found,) = frozen.eval().test_step({"inputs": [picture], "data_samples": [sample]})
    assert found.pred_sem_seg.data.shape == (1, 40, 50)


def test_a_state_dict_holds_the_context_alone(dense_clip):
    model = build_segmentor(dense_clip, COOP)
    model.train().loss(*batch())
    state = model.state_dict()
    assert {*state} == {"backbone.weights_sha256", "prompt.context", "prompt.initial_context"}
    wider = build_segmentor(dense_clip, COOP, SEEN).state_dict()
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in wider.items()}
    file = io.BytesIO()
    torch.save(state, file)
    assert file.tell() < 10_000


def test_a_copy_in_the_middle_of_training_is_independent(dense_clip):
    model = build_segmentor(dense_clip, COOP).train()
    losses = model.loss(*batch())
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.prompt.context.add_(1)
    losses["decode.loss_ce"].backward()
    assert model.prompt.context.grad is not None and twin.prompt.context.grad is None
    twin.set_vocabulary(SEEN)
    assert model.prompt.vocabulary == ALL and model.num_classes == 4


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_another_length_is_refused(dense_clip):
    with pytest.raises(ValueError, match="must give rows of the length of `decode_head`, 23. Got 24"):
        MODELS.build(segmentor_config(dense_clip, **{"decode_head.embed_dim": 23}))


def test_rows_of_another_clip_are_refused(dense_clip, tmp_path):
    other = write_image_clip(tmp_path, "transformer", seed=5)
    with pytest.raises(ValueError, match="`prompt` of OVSegmentor must give rows of the CLIP of its `backbone`"):
        MODELS.build(segmentor_config(dense_clip, **{"language.text": other}))


def test_one_name_is_refused(frozen):
    before = frozen.prompt.vocabulary
    with pytest.raises(ValueError, match="The vocabulary of OVSegmentor must have at least two names.*Got 1"):
        frozen.set_vocabulary(["cat"])
    assert frozen.prompt.vocabulary == before


def test_a_head_without_rows_is_told_so(dense_clip):
    head = {"type": "mmseg.FCNHead", "in_channels": 24, "channels": 8, "num_classes": 4, "_delete_": True}
    model = build_segmentor(dense_clip, **{"decode_head": head})
    with pytest.raises(RuntimeError, match="Nothing adapted: no module of OVSegmentor takes rows"):
        model.loss(*batch())


def test_auxiliary_heads_count_along(dense_clip):
    aux = {"type": "subpt_dense.DenseCLIPHead", "embed_dim": 24, "scale": 10.0}
    model = build_segmentor(dense_clip, auxiliary_head=aux)
    assert model.auxiliary_head.num_classes == 4
    assert {"aux.loss_ce", "decode.loss_ce"} <= {*model.train().loss(*batch())}


# ---- a real run ------------------------------------------------------------------------------------------------------

SUBSPACE = {"type": "subpt_dense.SubspaceHook", "rank": 2, "explore": 5, "interval": 1, "project": "update"}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"))


def test_trains_validates_saves_and_tests(dense_clip, scenes, tmp_path):
    model = segmentor_config(dense_clip, COOP)
    data = scenes_config(scenes, "seen"), scenes_config(scenes)
    runner = make_runner(tmp_path / "run", model, *data, custom_hooks=[SUBSPACE])
    seen = []
    with mock.patch.object(OVSegmentor, "loss", autospec=True, side_effect=_noting(seen, OVSegmentor.loss)):
        runner.train()
    assert seen[0] > seen[-1] and len(seen) >= 20
    trained = runner.model
    assert trained.prompt.vocabulary == SEEN and trained.prompt.displacement() > 1e-3
    metrics = runner.test()
    assert trained.prompt.vocabulary == ALL and 0 <= metrics["mIoU"] <= 100

    checkpoint = torch.load(tmp_path / "run" / "iter_20.pth", weights_only=True)
    assert [key for key in checkpoint["state_dict"] if key.startswith("backbone")] == ["backbone.weights_sha256"]
    loaded = {"load_from": str(tmp_path / "run" / "iter_20.pth"), "custom_hooks": [SUBSPACE]}
    again = make_runner(tmp_path / "test", model, None, data[1], **loaded)
    assert again.test() == pytest.approx(metrics)
    assert torch.equal(again.model.prompt.context, trained.prompt.context)


def _noting(seen, loss):
    def noted(self, *args):
        losses = loss(self, *args)
        seen.append(losses["decode.loss_ce"].item())
        return losses

    return noted
