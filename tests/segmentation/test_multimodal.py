"""SAN from mmseg's own config, with our text encoder in place of its own."""

import copy
from unittest import mock

import open_clip
import pytest
import torch

from subpt_dense.prompts import context
from subpt_dense.segmentation.san_weights import split_visual
from tests.segmentation.san_model import (
    ALL,
    DIM,
    ENCODED,
    SEEN,
    WIDTH,
    build_san,
    pictures,
    san_config,
    write_vit_clip,
)

LOSSES = {
    f"decode.{layer}{name}" for layer in ("", "d2.") for name in ("loss_cls_ce", "loss_mask_ce", "loss_mask_dice")
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_vit_clip(tmp_path_factory.mktemp("vit_clip"))


def total(losses) -> torch.Tensor:
    return sum(value for name, value in losses.items() if "loss" in name)


def visual(clip) -> torch.nn.Module:
    return open_clip.create_model(clip["model"], pretrained=clip["pretrained"]).visual.eval()


@pytest.mark.parametrize("head", ["SideAdapterCLIPHead", "OVSideAdapterHead"])
def test_training_reaches_the_context(clip, tmp_path, head):
    own = head == "SideAdapterCLIPHead"  # mmseg's own head wants mmseg's own file
    options = {"decode_head.type": head, "pretrained": str(write_file(clip, tmp_path))} if own else {}
    model = build_san(clip, "ContextPrompt", **options).train()
    losses = model.loss(*pictures())
    assert {*losses} == LOSSES
    total(losses).backward()
    assert model.prompt.context.grad.abs().sum() > 0
    assert model.text_encoder.bg_embed.grad.abs().sum() > 0
    idle = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert idle == []
    frozen = {name.split(".")[0] for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {"image_encoder", "decode_head"}


def write_file(clip, root):
    """What mmseg's converter makes of a CLIP, as one file."""
    encoder, recogniser = split_visual(visual(clip).state_dict(), ENCODED)
    state = {f"image_encoder.{key}": value for key, value in encoder.items()}
    state |= {f"decode_head.rec_with_attnbias.{key}": value for key, value in recogniser.items()}
    path = root / "clip.pth"
    torch.save(state, path)
    return path


def test_either_form_of_pretrained_gives_the_same_model(clip, tmp_path):
    ours, theirs = build_san(clip), build_san(clip, pretrained=str(write_file(clip, tmp_path)))
    for part in ("image_encoder", "decode_head.rec_with_attnbias"):
        state, other = (model.get_submodule(part).state_dict() for model in (ours, theirs))
        assert all(torch.equal(state[key], other[key]) for key in state)


@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_prediction_in_a_changed_vocabulary(clip, mode):
    test_cfg = {"mode": mode, **({"crop_size": (64, 64), "stride": (32, 32)} if mode == "slide" else {})}
    model = build_san(clip, "ContextPrompt", test_cfg=test_cfg).train()
    model.loss(*pictures())
    model.eval().set_vocabulary(ALL)
    with torch.no_grad():
        samples = model.predict(*pictures(side=96))
    assert [tuple(sample.seg_logits.data.shape) for sample in samples] == [(3, 96, 96)] * 2
    assert samples[0].pred_sem_seg.data.unique().max() < 3
    with torch.no_grad():
        scores = model(pictures()[0], mode="tensor")
    assert scores.shape == (2, 3, 64, 64) and (scores >= 0).all()
    model.train().set_vocabulary(SEEN)
    assert {*model.loss(*pictures())} == LOSSES


def test_the_scores_are_those_of_the_rows(clip):
    """A vocabulary in another order gives the same maps in another order."""
    model = build_san(clip, vocabulary=ALL).eval()
    with torch.no_grad():
        scores = model(pictures()[0], mode="tensor")
        model.set_vocabulary(ALL[::-1])
        other = model(pictures()[0], mode="tensor")
    torch.testing.assert_close(other, scores.flip(1))
    assert scores.std(dim=1).max() > 1e-3


def test_class_counts_follow_the_vocabulary(clip):
    model = build_san(clip)
    for names in (SEEN, ALL):
        model.set_vocabulary(names)
        head = model.decode_head
        assert {model.num_classes, model.out_channels, head.num_classes, head.out_channels} == {len(names)}
        assert head.match_masks.num_classes == len(names)
        assert head.loss_decode[0].class_weight == [1.0] * len(names) + [0.1]
        labels = tuple(range(len(names)))
        assert torch.isfinite(total(model.loss(*pictures(labels=labels))))


def test_images_without_a_label(clip):
    model = build_san(clip, "ContextPrompt").train()
    losses = model.loss(*pictures(labels=()))
    total(losses).backward()
    assert losses["decode.loss_mask_ce"] == losses["decode.loss_mask_ce"]  # not NaN
    assert model.prompt.context.grad is not None


def test_one_encode_a_step(clip):
    model = build_san(clip, "ContextPrompt").train()
    with mock.patch.object(context, "encode_context", wraps=context.encode_context) as encode:
        for step in (1, 2):
            model.loss(*pictures())
            assert encode.call_count == step
        model.eval()
        with torch.no_grad():
            model.predict(*pictures())
            model.predict(*pictures())
    assert encode.call_count == 3  # at test time once, then kept


def test_prompt_losses_are_added(clip):
    anchor = {"type": "subpt_dense.TextAnchor", "names": ["pink bar"], "templates": "single", "weight": 1.0}
    model = build_san(clip, "ContextPrompt", **{"prompt.anchors": [anchor]}).train()
    assert {*model.loss(*pictures())} - LOSSES == {"loss_nfl"}


def test_the_checkpoint_knows_no_vocabulary(clip):
    model, wider = build_san(clip, "ContextPrompt"), build_san(clip, "ContextPrompt", vocabulary=ALL)
    model.train().loss(*pictures())
    state = model.state_dict()
    assert {key: value.shape for key, value in state.items()} == {k: v.shape for k, v in wider.state_dict().items()}
    assert not [key for key in state if "token" in key.split("prompt")[0] and "cls_token" not in key]
    assert {key for key in state if key.startswith("text_encoder")} == {"text_encoder.bg_embed"}
    twin = copy.deepcopy(model)
    assert twin.prompt is not model.prompt and torch.isfinite(total(twin.loss(*pictures())))


# ---- the image side --------------------------------------------------------------------------------------------------


def test_the_image_side_is_open_clips(clip):
    """The encoder's last map is the CLIP's block of that depth, and the rest of the CLIP ends in its embedding."""
    model, tower = build_san(clip).eval(), visual(clip)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outs = model.image_encoder(images)
        hidden = tower.conv1(images).flatten(2).transpose(1, 2)
        first = tower.class_embedding.expand(2, 1, -1)
        hidden = tower.ln_pre(torch.cat([first, hidden], 1) + tower.positional_embedding)
        expected = [hidden]
        for block in tower.transformer.resblocks:
            expected.append(block(expected[-1]))
        for (cells, first), tokens in zip(outs, expected[: ENCODED + 1], strict=True):
            torch.testing.assert_close(first, tokens[:, 0], atol=1e-5, rtol=0)
            torch.testing.assert_close(cells.flatten(2).mT, tokens[:, 1:], atol=1e-5, rtol=0)
        rec = model.decode_head.rec_with_attnbias
        (layer,) = rec.layers
        last = layer(expected[ENCODED].transpose(0, 1)).transpose(0, 1)
        torch.testing.assert_close(last, expected[-1], atol=1e-5, rtol=0)
        torch.testing.assert_close(rec.proj(rec.ln_post(last[:, 0])), tower(images), atol=1e-5, rtol=0)


def test_every_weight_of_the_tower_is_used_once(clip):
    state = visual(clip).state_dict()
    encoder, recogniser = split_visual(state, ENCODED)
    assert len(encoder) + len(recogniser) == len(state)
    assert sum(v.numel() for part in (encoder, recogniser) for v in part.values()) == sum(
        value.numel() for value in state.values()
    )


@pytest.mark.parametrize("layers", [0, 3, 12])
def test_a_split_out_of_range(clip, layers):
    with pytest.raises(ValueError, match=rf"`num_layers` of SAN's image encoder must be in \[1, 2\].*Got {layers}\."):
        split_visual(visual(clip).state_dict(), layers)


def test_an_unknown_tower():
    state = {"transformer.resblocks.0.ln_1.weight": 0, "transformer.resblocks.1.attn_pool.query": 0, "stem.conv": 0}
    with pytest.raises(ValueError, match=r"plain vision transformer.*attn_pool\.query, stem\.conv\."):
        split_visual(state, 1)


_REST = "decode_head.maskgen_cfg"


@pytest.mark.parametrize(
    ("vision", "options", "message"),
    [
        ({"layers": 4}, {}, r"does not: layers\.1\..* has no place"),
        ({"width": 48}, {}, r"does not: cls_token is \[1, 1, 48\], not \[1, 1, 32\]"),
        ({"image_size": 48}, {}, r"does not: pos_embed is \[1, 10, 32\], not \[1, 5, 32\]\."),
        ({}, {"image_encoder.act_cfg.type": "GELU"}, r"`act_cfg` of SAN's image encoder must be 'mmseg\.QuickGELU'"),
        ({}, {f"{_REST}.act_cfg.type": "GELU"}, r"`act_cfg` of SAN's mask layers must be 'mmseg\.QuickGELU'.*Got GELU"),
        ({}, {"image_encoder.act_cfg.type": "ReLU"}, r"`act_cfg` of SAN's image encoder must be.*Got ReLU"),
        ({}, {"image_encoder.num_heads": 4}, r"does not: it has 2 heads, not 4 as the image encoder \(`num_heads`\)\."),
        ({}, {f"{_REST}.num_heads": 4}, r"does not: it has 2 heads, not 4 as the mask layers \(`num_heads`\)\."),
    ],
    ids=["deeper", "wider", "larger", "activation", "last activation", "other activation", "heads", "last heads"],
)
def test_a_clip_that_does_not_fit(tmp_path, vision, options, message):
    other = write_vit_clip(tmp_path, **vision)
    with pytest.raises(ValueError, match=message):
        build_san(other, **options)


# ---- building --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_encoder.cat_bg": False}, "must be a subpt_dense.RowsTextEncoder with `cat_bg=True`"),
        ({"text_encoder.embed_dim": 16}, rf"must have one length\. Got {DIM} of prompt, 16 of text_encoder"),
        ({"decode_head.maskgen_cfg.out_dims": 16}, "must have one length.*16 of decode_head.maskgen_cfg"),
        ({"decode_head.loss_decode.0.class_weight": [1.0, 2.0, 0.1]}, "must be one number for all classes.*Got 2"),
    ],
)
def test_refusals(clip, options, message):
    from subpt_dense.registry import MODELS

    with pytest.raises(ValueError, match=message):
        MODELS.build(san_config(clip, **options))


@pytest.mark.parametrize("names", ["own", "one"])
@pytest.mark.parametrize(
    ("changed", "told"),
    [("pretrained", "pretrained"), ("text_encoder.text", "text_encoder.text"), ("language.text", "pretrained")],
)
def test_parts_of_two_clips_are_refused(clip, tmp_path, changed, told, names):
    """The other CLIP has the same sizes; under one model name only its weights tell it."""
    from subpt_dense.registry import MODELS

    other = write_vit_clip(tmp_path, seed=5)
    if names == "one":
        other = {**clip, "pretrained": other["pretrained"]}
    with pytest.raises(ValueError, match=f"`prompt` of OVMultimodalSegmentor .* of the CLIP of its `{told}`, '"):
        MODELS.build(san_config(clip, **{changed: other}))


@pytest.mark.parametrize("same", [True, False])
def test_rows_of_a_file_are_compared_too(clip, tmp_path, same):
    from subpt_dense.prompts import save_rows
    from subpt_dense.registry import MODELS

    prompt = build_san(clip if same else write_vit_clip(tmp_path, seed=5), init=False).eval().prompt
    facts = {key: prompt.identity()[key] for key in ("backbone", "weights", "weights_hash")}
    with torch.no_grad():
        save_rows(tmp_path / "rows.safetensors", prompt(), SEEN, prompt="a {}", **facts)
    config = san_config(clip)
    config.prompt = {"type": "subpt_dense.RowsPrompt", "file": str(tmp_path / "rows.safetensors")}
    if same:
        MODELS.build(config).set_vocabulary(SEEN)
        return
    with pytest.raises(ValueError, match="must give rows of the CLIP of its `pretrained`"):
        MODELS.build(config)


def test_mmsegs_own_text_encoder_is_refused(clip):
    from subpt_dense.registry import MODELS

    config = san_config(clip)
    config.text_encoder = {"type": "CLIPTextEncoder", "vocabulary": ["a"], "embed_dims": WIDTH, "num_heads": 2}
    with pytest.raises(ValueError, match="`text_encoder` of OVMultimodalSegmentor.*Got CLIPTextEncoder"):
        MODELS.build(config)


def test_one_name_is_refused_and_changes_nothing(clip):
    model = build_san(clip)
    with pytest.raises(ValueError, match=r"must be at least two.*Got \['star'\]"):
        model.set_vocabulary(["star"])
    assert model.prompt.vocabulary == SEEN and model.num_classes == 2
