"""The tower itself: what it holds, that it is frozen, its hash, its precisions, its tokenizer."""

import math
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from subpt_dense.text import TextSpec, TextTower, get_tower, load_tower
from subpt_dense.text.tower import TowerModules
from tests.tiny_clip import random_clip, register_config, save_weights, tiny_config, write_tiny_clip

Clip = tuple[str, str]


@pytest.fixture(scope="module")
def tower(tiny_clip: Clip) -> TextTower:
    return get_tower(load_tower(TextSpec(*tiny_clip)), "cpu")


def test_what_it_holds(tower: TextTower, tiny_clip: Clip) -> None:
    assert (tower.model, tower.pretrained) == tiny_clip
    assert (tower.width, tower.embed_dim, tower.context_length) == (32, 24, 77)
    assert (tower.dtype, tower.device) == (torch.float32, torch.device("cpu"))
    assert tower.logit_scale == pytest.approx(math.exp(load_file(tiny_clip[1])["logit_scale"].item()))
    assert tower.attn_mask.shape == (77, 77)


def test_frozen_and_outside_every_module_tree(tower: TextTower) -> None:
    assert not isinstance(tower, nn.Module)
    assert not any(p.requires_grad for p in tower.modules.parameters())
    assert not any(m.training for m in tower.modules.modules())
    assert not hasattr(tower.modules, "visual")
    holder = nn.Module()
    holder.tower = tower  # type: ignore[assignment]
    assert not holder.state_dict() and not list(holder.modules())[1:]


def test_hash_depends_on_the_text_weights_alone(tmp_path: Path, tiny_clip: Clip, tower: TextTower) -> None:
    state = load_file(tiny_clip[1])
    state["visual.proj"] += 1
    state["logit_scale"] += 1
    save_weights(tmp_path / "image.pt", state)
    assert load_tower(TextSpec(tiny_clip[0], str(tmp_path / "image.pt"))).weights_hash == tower.weights_hash
    state["ln_final.bias"][0] += 1e-6
    save_weights(tmp_path / "text.pt", state)
    assert load_tower(TextSpec(tiny_clip[0], str(tmp_path / "text.pt"))).weights_hash != tower.weights_hash


def test_a_custom_text_clip_is_the_same_tower(tmp_path: Path, tiny_clip: Clip, tower: TextTower) -> None:
    custom = register_config(tmp_path, {**tiny_config(), "custom_text": True}, prefix="tiny-custom")
    assert isinstance(open_clip.create_model(custom, load_weights=False), open_clip.CustomTextCLIP)
    assert load_tower(TextSpec(custom, tiny_clip[1])).weights_hash == tower.weights_hash


@pytest.mark.parametrize(
    ("text", "embed_dim"), [({"proj_bias": True}, 24), ({"proj_type": "none"}, 32), ({"context_length": 20}, 24)]
)
def test_other_projections_and_lengths(tmp_path: Path, text: dict, embed_dim: int) -> None:
    config = {**tiny_config(**text), "custom_text": True, "embed_dim": embed_dim}
    tower = get_tower(load_tower(TextSpec(*write_tiny_clip(tmp_path, config=config))), "cpu")
    assert tower.embed_dim == embed_dim
    assert tower.context_length == text.get("context_length", 77)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"pool_type": "none"}, "must read one of its argmax, first, last tokens. Got 'none'"),
        ({"embed_cls": True}, "without a class token"),
    ],
)
def test_unsuitable_towers_are_refused_when_built_too(tmp_path: Path, text: dict, message: str) -> None:
    name = register_config(tmp_path, {**tiny_config(**text), "custom_text": True})
    with pytest.raises(ValueError, match=message):
        TowerModules(random_clip(name))


def test_too_few_token_rows(tmp_path: Path) -> None:
    spec = TextSpec(*write_tiny_clip(tmp_path, config=tiny_config(vocab_size=1000)))
    with pytest.raises(ValueError, match="must embed its tokenizer's 49408 tokens. It embeds 1000."):
        load_tower(spec)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_low_precision_is_laid_out_as_open_clips(tiny_clip: Clip, precision: str, dtype: torch.dtype) -> None:
    key = load_tower(TextSpec(*tiny_clip, precision))
    lowered = get_tower(key, "cpu")
    reference = open_clip.create_model(tiny_clip[0], pretrained=tiny_clip[1], precision=precision)
    wanted = {n: p for n, p in reference.named_parameters() if not n.startswith("visual") and n != "logit_scale"}
    got = dict(lowered.modules.named_parameters())
    assert wanted.keys() == got.keys()
    assert got.pop("text_projection").dtype == torch.float32  # small, and the last to round
    assert all(torch.equal(p, wanted[name]) and p.dtype == wanted[name].dtype for name, p in got.items())
    assert lowered.dtype == dtype
    assert key.weights_hash == load_tower(TextSpec(*tiny_clip)).weights_hash
    assert not any(p.requires_grad for p in lowered.modules.parameters())
    assert not any(m.training for m in lowered.modules.modules())


def test_tokenize_is_open_clips(tower: TextTower) -> None:
    texts = ["a photo of a cat.", "", "A photo of a hot dog (big).", "crêpe &amp; café  au lait"]
    assert torch.equal(tower.tokenize(texts), open_clip.tokenize(texts))
    assert tower.tokenize([]).shape == (0, 77)


def test_tokenize_never_cuts(tower: TextTower) -> None:
    assert tower.tokenize(["cat " * 75]).argmax().item() == 76
    with pytest.raises(ValueError, match="must have at most 77 tokens, both ends included. Got 78 in 'cat cat"):
        tower.tokenize(["dog", "cat " * 76])


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ("a cat", TypeError, "must be a list of texts. Got the single string 'a cat'"),
        (["a <end_of_text> cat"], ValueError, "must not spell CLIP's start or end token"),
        (["<START_of_text>"], ValueError, "Got '<START_of_text>'"),
    ],
)
def test_tokenize_refusals(tower: TextTower, texts: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tower.tokenize(texts)


def test_a_wider_tower_is_the_same_tower(tower: TextTower) -> None:
    wide = tower.copy_to(torch.device("cpu"), torch.float64)
    assert (wide.dtype, wide.wide_dtype, tower.wide_dtype) == (torch.float64, torch.float64, torch.float32)
    assert wide.weights_hash == tower.weights_hash
    for name, value in wide.modules.state_dict().items():
        assert value.dtype == torch.float64 and torch.equal(value.float(), tower.modules.state_dict()[name])


def test_masked_padding_is_refused(tmp_path: Path) -> None:
    clip = random_clip(register_config(tmp_path, {**tiny_config(no_causal_mask=True), "custom_text": True}))
    clip.text.use_pad_mask = True
    with pytest.raises(ValueError, match="must not mask its padding"):
        TowerModules(clip)


def test_another_mask_is_refused(tmp_path: Path) -> None:
    clip = random_clip(register_config(tmp_path, tiny_config()))
    clip.attn_mask = clip.attn_mask.clone().fill_diagonal_(float("-inf"))
    with pytest.raises(ValueError, match="must be causal, or see all its tokens"):
        TowerModules(clip)
