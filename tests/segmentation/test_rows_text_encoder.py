"""Our text encoder keeps the contract of mmseg's, and gives its rows where the prompts are the same."""

import copy
import math

import open_clip
import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.models.text_encoder import CLIPTextEncoder
from mmseg.utils import get_predefined_templates
from torch.nn.functional import normalize

from subpt_dense.prompts import TemplatePrompt
from subpt_dense.registry import MODELS
from subpt_dense.segmentation.rows_text_encoder import RowsTextEncoder
from subpt_dense.text import TextSpec, get_tower, load_tower

NAMES = ("playing field", "cat", "river")
PARTS = {
    "ln_1": "norms.0",
    "ln_2": "norms.1",
    "attn": "attentions.0.attn",
    "mlp.c_fc": "ffns.0.layers.0.0",
    "mlp.c_proj": "ffns.0.layers.1",
}


@pytest.fixture
def encoder(tiny_clip) -> RowsTextEncoder:
    torch.manual_seed(0)
    return RowsTextEncoder(24, text={"model": tiny_clip[0], "pretrained": tiny_clip[1]})


def mmseg_encoder(tiny_clip, templates) -> CLIPTextEncoder:
    """mmseg's own with the tiny CLIP's text weights in it, and a background row."""
    init_default_scope("mmseg")
    torch.manual_seed(1)
    theirs = CLIPTextEncoder(
        vocabulary=list(NAMES),
        templates=templates,
        embed_dims=32,
        num_layers=2,
        num_heads=2,
        output_dims=24,
        norm_cfg={"type": "LN", "eps": 1e-5},
    )
    clip = open_clip.create_model(tiny_clip[0], pretrained=tiny_clip[1])
    state = {}
    for key, value in clip.state_dict().items():
        if key.startswith("transformer.resblocks."):
            _, _, index, rest = key.split(".", 3)
            (part,) = (part for part in PARTS if rest.startswith(part + "."))
            state[f"transformer.{index}.{PARTS[part]}{rest[len(part) :]}"] = value
        elif not key.startswith("visual."):
            state[key] = value
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert set(missing) == {"bg_embed"} and not unexpected
    return theirs.eval()


@pytest.mark.parametrize("templates", [["a photo of a {}."], "vild"], ids=["single", "vild"])
def test_template_rows_are_those_of_mmseg(tiny_clip, encoder, templates):
    theirs = mmseg_encoder(tiny_clip, templates)
    texts = get_predefined_templates(templates) if isinstance(templates, str) else templates
    prompt = TemplatePrompt({"model": tiny_clip[0], "pretrained": tiny_clip[1]}, templates=texts, vocabulary=NAMES)
    encoder.set_rows(prompt())
    with torch.no_grad():
        encoder.bg_embed.copy_(theirs.bg_embed)
        rows, expected = encoder(), theirs()
    assert rows.shape == expected.shape == (4, 24)
    # At CLIP's scale: 1e-5 of a row's length.
    torch.testing.assert_close(rows, expected, atol=1e-5 * encoder.scale, rtol=0)
    assert not torch.allclose(rows[0], rows[1], atol=1e-2)


def test_the_scale_is_the_clips_and_is_not_learned(tiny_clip, encoder):
    tower = get_tower(load_tower(TextSpec(*tiny_clip)), "cpu")
    assert encoder.scale == tower.logit_scale != 1
    assert {name for name, _ in encoder.named_parameters()} == {"bg_embed"} == {*encoder.state_dict()}


@pytest.mark.parametrize("cat_bg", [True, False])
def test_rows_are_scaled_and_keep_their_graph(cat_bg):
    encoder = RowsTextEncoder(4, scale=10.0, cat_bg=cat_bg)
    rows = normalize(torch.randn(3, 4), dim=1).requires_grad_()
    encoder.set_rows(rows)
    found = encoder()
    assert found.shape == (3 + cat_bg, 4)
    torch.testing.assert_close(found.norm(dim=1), torch.full((3 + cat_bg,), 10.0))
    torch.testing.assert_close(found[:3], 10 * rows)
    found.sum().backward()
    torch.testing.assert_close(rows.grad, torch.full((3, 4), 10.0))
    assert not cat_bg or encoder.bg_embed.grad.abs().sum() > 0


def test_rows_are_float32_under_autocast():
    encoder = RowsTextEncoder(4, scale=10.0)
    encoder.set_rows(normalize(torch.randn(3, 4), dim=1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert encoder().dtype == torch.float32


@pytest.mark.parametrize("init_cfg", [None, {"type": "Pretrained_Part", "checkpoint": "no such file"}])
def test_initialisation_draws_the_background_as_mmseg_does(init_cfg):
    torch.manual_seed(0)
    encoder = RowsTextEncoder(512, scale=100.0, init_cfg=init_cfg)
    before = encoder.bg_embed.clone()
    encoder.init_weights()
    drawn = encoder.bg_embed.clone()
    assert not torch.equal(before, drawn)
    assert drawn.std().item() == pytest.approx(512**-0.5, rel=0.1)
    encoder.init_weights()
    assert torch.equal(encoder.bg_embed, drawn)  # once


def test_copies_start_without_rows(encoder):
    encoder.set_rows(normalize(torch.randn(2, 24), dim=1))
    with pytest.raises(RuntimeError, match="RowsTextEncoder has no rows"):
        copy.deepcopy(encoder)()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either `text`.*Got neither"),
        ({"scale": 1.0, "text": {"model": "a", "pretrained": "b"}}, "either `text`.*Got both"),
        ({"scale": 0.0}, r"`scale` of RowsTextEncoder must be positive\. Got 0\.0"),
        ({"scale": -math.inf}, "`scale` of RowsTextEncoder must be positive"),
        ({"scale": 1.0, "embed_dim": 0}, "`embed_dim` of RowsTextEncoder must be positive"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        RowsTextEncoder(**{"embed_dim": 4, **arguments})


def test_rows_of_another_length_are_refused(encoder):
    with pytest.raises(ValueError, match=r"`rows` of RowsTextEncoder must have shape \[K, 24\]"):
        encoder.set_rows(torch.ones(2, 25))


def test_it_is_registered():
    built = MODELS.build({"type": "subpt_dense.RowsTextEncoder", "embed_dim": 4, "scale": 2.0})
    assert isinstance(built, RowsTextEncoder)
