"""Whole texts and templates against open_clip's own encoder."""

from pathlib import Path

import open_clip
import pytest
import torch
from open_clip import CLIP, build_zero_shot_classifier
from torch.nn.functional import normalize

from subpt_dense.text import (
    TextSpec,
    TextTower,
    encode_templates,
    encode_texts,
    get_templates,
    get_tower,
    load_tower,
)
from tests.tiny_clip import tiny_config, write_tiny_clip

Clip = tuple[str, str]
TEXTS = ["a photo of a cat.", "dog", "", "a bad photo of the (very) large hot dog on a table.", "cat " * 75]
NAMES = ["cat", "hot_dog", "car (automobile)", "wine glass", "a rather long name for one class"]
#: Largest difference of a unit row's entries, by precision: open_clip adds positions and projects in low precision.
ATOL = {"fp32": 1e-6, "bf16": 2e-2, "fp16": 2e-3}


@pytest.fixture(scope="module")
def tower(tiny_clip: Clip) -> TextTower:
    return get_tower(load_tower(TextSpec(*tiny_clip)), "cpu")


@pytest.fixture(scope="module")
def clip(tiny_clip: Clip) -> CLIP:
    return open_clip.create_model(tiny_clip[0], pretrained=tiny_clip[1]).eval().requires_grad_(False)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("batch", [1, 2, 256])
def test_texts_equal_open_clips(tiny_clip: Clip, precision: str, batch: int) -> None:
    tower = get_tower(load_tower(TextSpec(*tiny_clip, precision)), "cpu")
    clip = open_clip.create_model(tiny_clip[0], pretrained=tiny_clip[1], precision=precision).eval()
    with torch.no_grad():
        reference = normalize(clip.encode_text(open_clip.tokenize(TEXTS)).float(), dim=-1)
    rows = encode_texts(tower, TEXTS, batch=batch)
    assert rows.dtype == torch.float32 and not rows.requires_grad
    torch.testing.assert_close(rows, reference, atol=ATOL[precision], rtol=0)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-6, rtol=0)


def test_different_texts_give_different_rows(tower: TextTower) -> None:
    rows = encode_texts(tower, TEXTS)
    assert (rows @ rows.T).triu(1).max() < 0.999


@pytest.mark.parametrize(
    "text",
    [
        {"proj_bias": True},
        {"proj_type": "none"},
        {"ls_init_value": 0.5},
        {"qk_norm": True},
        {"no_causal_mask": True},
        {"pool_type": "first", "no_causal_mask": True},
        {"pool_type": "last"},
    ],
    ids=lambda text: ",".join(text),
)
def test_other_text_towers_equal_open_clips(tmp_path: Path, text: dict) -> None:
    spec = TextSpec(*write_tiny_clip(tmp_path, config={**tiny_config(**text), "custom_text": True}))
    clip = open_clip.create_model(spec.model, pretrained=spec.pretrained).eval()
    reference = clip.encode_text(open_clip.tokenize(TEXTS), normalize=True).detach()
    rows = encode_texts(get_tower(load_tower(spec), "cpu"), TEXTS)
    torch.testing.assert_close(rows, reference, atol=1e-6, rtol=0)


def test_rows_made_in_inference_mode_are_ordinary(tower: TextTower) -> None:
    with torch.inference_mode():
        rows = encode_templates(tower, NAMES, "toy")
    assert not rows.is_inference() and not rows.requires_grad


@pytest.mark.parametrize("templates", ["single", "toy", ["a {}!", "{}"]])
def test_templates_equal_open_clips_zero_shot_classifier(
    tower: TextTower, clip: CLIP, templates: str | list[str]
) -> None:
    names = [name.replace("_", " ") for name in NAMES]
    reference = build_zero_shot_classifier(clip, open_clip.tokenize, names, get_templates(templates)).T
    torch.testing.assert_close(encode_templates(tower, NAMES, templates, batch=4), reference, atol=1e-6, rtol=0)


def test_no_text_and_refusals(tower: TextTower) -> None:
    assert encode_texts(tower, []).shape == (0, 24)
    assert encode_templates(tower, [], "toy").shape == (0, 24)
    with pytest.raises(ValueError, match="`batch` of encode_texts must be at least 1. Got 0."):
        encode_texts(tower, ["cat"], batch=0)
    with pytest.raises(ValueError, match="must have at most 77 tokens"):
        encode_templates(tower, ["cat " * 80], "single")


def test_autocast_changes_nothing(tower: TextTower) -> None:
    plain = encode_texts(tower, TEXTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encode_texts(tower, TEXTS), plain)
