"""Rows against open_clip's own encoder and a full-length reference, values and gradients."""

from pathlib import Path

import open_clip
import pytest
import torch
from open_clip import CLIP, build_zero_shot_classifier
from torch import Tensor
from torch.nn.functional import normalize

from subpt_dense.text import (
    TextSpec,
    TextTower,
    encode_context,
    encode_templates,
    encode_texts,
    get_templates,
    get_tower,
    load_tower,
    pack_names,
)
from tests.tiny_clip import tiny_config, write_tiny_clip

Clip = tuple[str, str]
TEXTS = ["a photo of a cat.", "dog", "", "a bad photo of the (very) large hot dog on a table.", "cat " * 75]
NAMES = ["cat", "hot_dog", "car (automobile)", "wine glass", "a rather long name for one class"]
#: Largest difference of a unit row's entries, by precision.
ATOL = {"fp32": 1e-6, "bf16": 1e-2, "fp16": 2e-3}


@pytest.fixture(scope="module")
def tower(tiny_clip: Clip) -> TextTower:
    return get_tower(load_tower(TextSpec(*tiny_clip)), "cpu")


@pytest.fixture(scope="module")
def clip(tiny_clip: Clip) -> CLIP:
    return open_clip.create_model(tiny_clip[0], pretrained=tiny_clip[1]).eval().requires_grad_(False)


def full_length_rows(clip: CLIP, context: Tensor, names: list[str]) -> Tensor:
    """CoOp's way: tokenise with placeholders, overwrite their embeddings, and encode all 77 positions."""
    length = context.shape[0]
    texts = [" ".join(["X"] * length + [name.replace("_", " ") + "."]) for name in names]
    tokens = open_clip.tokenize(texts, context_length=clip.context_length)
    embedded = clip.token_embedding(tokens)  # [N, 77, W]
    shared = context.expand(len(names), -1, -1)
    embedded = torch.cat([embedded[:, :1], shared, embedded[:, 1 + length :]], dim=1)
    hidden = clip.transformer(embedded + clip.positional_embedding, attn_mask=clip.attn_mask)
    hidden = clip.ln_final(hidden)[torch.arange(len(names)), tokens.argmax(dim=-1)]
    return normalize(hidden @ clip.text_projection, dim=-1)


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
    "text", [{"proj_bias": True}, {"proj_type": "none"}, {"ls_init_value": 0.5}, {"qk_norm": True}]
)
def test_other_text_towers_equal_open_clips(tmp_path: Path, text: dict) -> None:
    spec = TextSpec(*write_tiny_clip(tmp_path, config={**tiny_config(**text), "custom_text": True}))
    clip = open_clip.create_model(spec.model, pretrained=spec.pretrained).eval()
    reference = clip.encode_text(open_clip.tokenize(TEXTS), normalize=True).detach()
    rows = encode_texts(get_tower(load_tower(spec), "cpu"), TEXTS)
    torch.testing.assert_close(rows, reference, atol=1e-6, rtol=0)


@pytest.mark.parametrize("length", [0, 1, 4, 16, 60])
def test_context_equals_the_full_length_reference(tower: TextTower, clip: CLIP, length: int) -> None:
    torch.manual_seed(length)
    start = torch.randn(length, 32) * 0.1
    weight = torch.randn(len(NAMES), 24)
    rows, grads = [], []
    tokens = pack_names(tower, NAMES, length)
    for encode in (lambda c: encode_context(tower, c, tokens), lambda c: full_length_rows(clip, c, NAMES)):
        context = start.clone().requires_grad_()
        out = encode(context)
        (out * weight).sum().backward()
        rows.append(out.detach())
        grads.append(context.grad)
    torch.testing.assert_close(rows[0], rows[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(grads[0], grads[1], atol=1e-6, rtol=1e-5)
    assert length == 0 or grads[0].abs().max() > 1e-3


def test_in_double_precision_the_cut_is_exact(tiny_clip: Clip, clip: CLIP) -> None:
    double = open_clip.create_model(tiny_clip[0], pretrained=tiny_clip[1]).eval().double().requires_grad_(False)
    tower = TextTower.from_open_clip(double, model=tiny_clip[0], pretrained=tiny_clip[1])
    context = torch.randn(4, 32)
    rows = encode_context(tower, context, pack_names(tower, NAMES, 4))
    torch.testing.assert_close(rows, full_length_rows(double, context.double(), NAMES).float(), atol=1e-7, rtol=0)


def test_word_embeddings_as_context_are_the_written_prompt(tower: TextTower) -> None:
    words = torch.tensor(tower.token_ids("a photo of a"))
    rows = encode_context(tower, tower.token_embedding.weight[words], pack_names(tower, NAMES, 4))
    torch.testing.assert_close(rows, encode_templates(tower, NAMES, "single"), atol=1e-6, rtol=0)


def test_the_gradient_reaches_the_context_only(tower: TextTower) -> None:
    context = torch.randn(2, 32, requires_grad=True)
    encode_context(tower, context, pack_names(tower, NAMES, 2)).sum().backward()
    assert context.grad is not None and context.grad.dtype == torch.float32
    assert all(p.grad is None for p in tower.modules.parameters())
    frozen = encode_context(tower, context.detach(), pack_names(tower, NAMES, 2))
    assert not frozen.requires_grad


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_low_precision_tower_keeps_a_float32_context(tiny_clip: Clip, tower: TextTower, precision: str) -> None:
    low = get_tower(load_tower(TextSpec(*tiny_clip, precision)), "cpu")
    context = torch.randn(4, 32, requires_grad=True)
    tokens = pack_names(tower, NAMES, 4)
    rows = encode_context(low, context, tokens)
    rows[:, 0].sum().backward()
    assert rows.dtype == torch.float32 and context.grad is not None and context.grad.dtype == torch.float32
    torch.testing.assert_close(rows, encode_context(tower, context, tokens), atol=3 * ATOL[precision], rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_contexts_of_other_dtypes_are_computed_in_float32(tower: TextTower, dtype: torch.dtype) -> None:
    context = torch.randn(4, 32).to(dtype)
    tokens = pack_names(tower, NAMES, 4)
    assert torch.equal(encode_context(tower, context, tokens), encode_context(tower, context.float(), tokens))


def test_autocast_changes_nothing(tower: TextTower) -> None:
    context, tokens = torch.randn(4, 32), pack_names(tower, NAMES, 4)
    plain = encode_context(tower, context, tokens), encode_texts(tower, TEXTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = encode_context(tower, context, tokens), encode_texts(tower, TEXTS)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


def test_rows_made_in_inference_mode_are_ordinary(tower: TextTower) -> None:
    with torch.inference_mode():
        rows = encode_templates(tower, NAMES, "toy")
    assert not rows.is_inference() and not rows.requires_grad


def test_nothing_to_encode(tower: TextTower) -> None:
    assert encode_texts(tower, []).shape == (0, 24)
    assert encode_templates(tower, [], "toy").shape == (0, 24)
    assert encode_context(tower, torch.zeros(2, 32), pack_names(tower, [], 2)).shape == (0, 24)


@pytest.mark.parametrize("templates", ["single", "toy", ["a {}!", "{}"]])
def test_templates_equal_open_clips_zero_shot_classifier(
    tower: TextTower, clip: CLIP, templates: str | list[str]
) -> None:
    names = [name.replace("_", " ") for name in NAMES]
    reference = build_zero_shot_classifier(clip, open_clip.tokenize, names, get_templates(templates)).T
    torch.testing.assert_close(encode_templates(tower, NAMES, templates, batch=4), reference, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("shape", "length", "message"),
    [
        ((3, 32), 4, r"`context` of encode_context must be \[M, W\] = \[4, 32\]\. Got \[3, 32\]\."),
        ((4, 24), 4, r"= \[4, 32\]\. Got \[4, 24\]\."),
        ((1, 4, 32), 4, r"Got \[1, 4, 32\]\."),
    ],
)
def test_context_of_another_shape(tower: TextTower, shape: tuple[int, ...], length: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_context(tower, torch.zeros(shape), pack_names(tower, NAMES, length))


def test_context_on_another_device(tower: TextTower) -> None:
    with pytest.raises(ValueError, match="must be on the tower's cpu. Got meta."):
        encode_context(tower, torch.zeros(2, 32, device="meta"), pack_names(tower, NAMES, 2))


def test_other_refusals(tower: TextTower) -> None:
    with pytest.raises(ValueError, match="`batch` of encode_texts must be at least 1. Got 0."):
        encode_texts(tower, ["cat"], batch=0)
    with pytest.raises(ValueError, match="must have at most 77 tokens"):
        encode_templates(tower, ["cat " * 80], "single")


@pytest.mark.gpu
def test_context_on_a_gpu(tiny_clip: Clip, tower: TextTower) -> None:
    fast = get_tower(load_tower(TextSpec(*tiny_clip)), "cuda")
    grads = []
    for each in (tower, fast):
        context = torch.linspace(-1, 1, 4 * 32).view(4, 32).to(each.device).requires_grad_()
        with torch.autocast(each.device.type):
            encode_context(each, context, pack_names(each, NAMES, 4))[:, 0].sum().backward()
        grads.append(context.grad.cpu())  # type: ignore[union-attr]
    torch.testing.assert_close(*grads, atol=1e-4, rtol=1e-3)
