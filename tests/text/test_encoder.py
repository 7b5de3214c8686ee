"""Learned contexts to rows: every encoder against CoOp's own way, values and gradients."""

import random
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip import CLIP
from torch import Tensor

from subpt_dense.text import (
    TextSpec,
    TextTower,
    choose_encoder,
    encode_context,
    encode_templates,
    get_tower,
    load_tower,
    pack_names,
    prefix_of,
)
from subpt_dense.text import encoder as encoder_module
from tests.text.coop import NAMES, WAYS, compare, double, full_length_rows, random_words, rows_and_gradient
from tests.tiny_clip import tiny_config, write_tiny_clip

VOCABULARIES = {
    "one class": ["cat"],
    "equal lengths": ["cat", "dog", "bird", "fish", "horse"],
    "one token and twenty": ["cat", "dog " * 20, "hot dog"],
    "twenty tokens alone": ["dog " * 20],
    "brackets": ["car (automobile)", "bow (weapon)", "(x)", "bow"],
    "punctuation": ["dog's", "x-ray", "rock & roll", "a, b", "3.5 mm jack", "what?!"],
    "unicode": ["crêpe", "猫", "naïve café", "Ω", "smörgåsbord"],
    "digits": ["1", "747", "route 66", "1 2 3 4 5 6 7 8 9"],
    "names": NAMES,
    "random": random_words(60, 0),
    "random again": random_words(25, 1),
}
TOWERS: dict[str, dict] = {
    "openai": tiny_config(),
    "laion": {**tiny_config(), "quick_gelu": False},
    "one layer": tiny_config(layers=1),
    "four heads": tiny_config(heads=4, layers=3),
    "layer scale": {**tiny_config(ls_init_value=0.5), "custom_text": True},
    "toy length": tiny_config(context_length=40),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("names", VOCABULARIES.values(), ids=VOCABULARIES)
def test_exact_in_float64(doubled: tuple[CLIP, TextTower], names: list[str], way: dict) -> None:
    compare(*doubled, names, 4, way, 1e-12)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("names", VOCABULARIES.values(), ids=VOCABULARIES)
def test_exact_in_float32(clip: CLIP, tower: TextTower, names: list[str], way: dict) -> None:
    compare(clip, tower, names, 4, way, 1e-5)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("length", [0, 1, 16, 60])
def test_exact_at_every_context_length(doubled: tuple[CLIP, TextTower], length: int, way: dict) -> None:
    compare(*doubled, NAMES, length, way, 1e-12)


@pytest.mark.parametrize("config", TOWERS.values(), ids=TOWERS)
@pytest.mark.parametrize("way", ["shared", "chunked"])
def test_exact_for_every_causal_tower(tmp_path: Path, config: dict, way: str) -> None:
    clip, tower = double(TextSpec(*write_tiny_clip(tmp_path, config=config)))
    assert choose_encoder(tower)[0] == "shared_prefix"
    text = getattr(clip, "text", clip)
    text.context_length = config["text_cfg"]["context_length"]
    compare(text, tower, NAMES, 4, WAYS[way], 1e-12)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_permuted_names_permute_rows(doubled: tuple[CLIP, TextTower], way: dict) -> None:
    tower, names = doubled[1], random_words(30, 2)
    order = random.Random(0).sample(range(30), 30)
    context = torch.randn(4, 32, dtype=torch.float64)
    rows = encode_context(tower, context, pack_names(tower, names, 4), **way)
    again = encode_context(tower, context, pack_names(tower, [names[i] for i in order], 4), **way)
    torch.testing.assert_close(again, rows[order], atol=1e-13, rtol=0)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_another_class_changes_no_other_row(doubled: tuple[CLIP, TextTower], way: dict) -> None:
    tower, names = doubled[1], random_words(30, 3)
    context = torch.randn(4, 32, dtype=torch.float64)
    rows = encode_context(tower, context, pack_names(tower, names, 4), **way)
    more = encode_context(tower, context, pack_names(tower, ["dog " * 15, *names, "zebra"], 4), **way)
    torch.testing.assert_close(more[1:-1], rows, atol=1e-13, rtol=0)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_autocast_changes_nothing(tower: TextTower, way: dict) -> None:
    start, tokens = torch.randn(4, 32), pack_names(tower, NAMES, 4)
    weight = torch.randn(len(NAMES), 24)
    plain = rows_and_gradient(lambda c: encode_context(tower, c, tokens, **way), start, weight)

    def encode_under_autocast(context: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return encode_context(tower, context, tokens, **way)

    cast = rows_and_gradient(encode_under_autocast, start, weight)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


def test_a_known_prefix_serves_every_vocabulary(doubled: tuple[CLIP, TextTower]) -> None:
    tower = doubled[1]
    context = torch.randn(4, 32, dtype=torch.float64)
    prefix = prefix_of(tower, context)
    for names in (NAMES, ["zebra"], random_words(30, 4)):
        tokens = pack_names(tower, names, 4)
        for limit in (None, 20):
            rows = encode_context(tower, context, tokens, prefix=prefix, max_tokens=limit)
            torch.testing.assert_close(rows, encode_context(tower, context, tokens), atol=1e-13, rtol=0)
    assert prefix_of(tower, context, encoder="truncated") is None
    assert prefix_of(tower, context, position="front") is None


@pytest.mark.parametrize("encoder", ["auto", "truncated", "reference"])
def test_a_context_for_every_name(doubled: tuple[CLIP, TextTower], encoder: str) -> None:
    clip, tower = doubled
    torch.manual_seed(0)
    start, weight = torch.randn(len(NAMES), 4, 32).double(), torch.randn(len(NAMES), 24).double()
    tokens = pack_names(tower, NAMES, 4)
    rows, grad = rows_and_gradient(lambda c: encode_context(tower, c, tokens, encoder=encoder), start, weight)
    wanted, slope = rows_and_gradient(lambda c: full_length_rows(clip, c, NAMES), start, weight)
    torch.testing.assert_close(rows, wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(grad, slope, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("position", ["front", "middle"])
@pytest.mark.parametrize("length", [1, 4, 5])
def test_words_around_a_name_are_the_written_prompt(tower: TextTower, position: str, length: int) -> None:
    words = ["a", "photo", "of", "my", "big"][:length]
    first = length // 2 if position == "middle" else 0
    written = [" ".join([*words[:first], "{}", *words[first:]]) + "."]
    context = tower.token_embedding.weight[torch.tensor(tower.token_ids(" ".join(words)))]
    rows = encode_context(tower, context, pack_names(tower, NAMES, length, position))
    torch.testing.assert_close(rows, encode_templates(tower, NAMES, written), atol=1e-6, rtol=0)


@pytest.mark.parametrize("encoder", ["truncated", "reference"])
@pytest.mark.parametrize("max_tokens", [1, 100, 10_000])
def test_the_plain_encoders_in_chunks(doubled: tuple[CLIP, TextTower], encoder: str, max_tokens: int) -> None:
    compare(*doubled, random_words(30, 5), 4, {"encoder": encoder, "max_tokens": max_tokens}, 1e-12)


CHOICES = [
    ({}, {}, "shared_prefix", "the tower is causal and all names follow one context"),
    ({}, {"class_specific": True}, "truncated", "a context of its own"),
    ({}, {"position": "front"}, "truncated", "names stand at the front"),
    ({"qk_norm": True}, {}, "truncated", "its blocks are CustomResidualAttentionBlock"),
    ({"no_causal_mask": True}, {}, "reference", "not causal"),
    ({"pool_type": "last"}, {}, "reference", "read at its last token"),
]


@pytest.mark.parametrize(("text", "asked", "encoder", "reason"), CHOICES, ids=[case[3] for case in CHOICES])
def test_the_choice_follows_tower_and_context(
    tmp_path: Path, text: dict, asked: dict, encoder: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**tiny_config(**text), "custom_text": True}
    tower = get_tower(load_tower(TextSpec(*write_tiny_clip(tmp_path, config=config))), "cpu")
    chosen, why = choose_encoder(tower, **asked)
    assert chosen == encoder and reason in why
    context = torch.randn(len(NAMES), 4, 32) if asked.get("class_specific") else torch.randn(4, 32)
    tokens = pack_names(tower, NAMES, 4, asked.get("position", "end"))
    told: list[str] = []
    monkeypatch.setattr(encoder_module, "print_log", lambda message, logger: told.append(message))
    rows = [encode_context(tower, context, tokens, encoder=each) for each in ("auto", "auto", "reference")]
    torch.testing.assert_close(rows[0], rows[2], atol=1e-6, rtol=0)
    assert told[0] == f"text encoder of {tower.model} (torch.float32, cpu): {encoder}: {why}"
    assert told[1:] == [] if encoder == "reference" else f"reference: as asked, in place of {encoder}" in told[1]
    assert len(told) <= 2
    better = {"truncated": "shared_prefix", "reference": "truncated"}.get(encoder)
    if better:
        with pytest.raises(ValueError, match=f"`encoder` of encode_context must be 'auto' or .*Got '{better}'"):
            encode_context(tower, context, tokens, encoder=better)


@pytest.mark.parametrize("text", [{"no_causal_mask": True}, {"pool_type": "last"}], ids=str)
def test_other_towers_are_encoded_as_open_clip_does(tmp_path: Path, text: dict) -> None:
    """Words as context make a written prompt, which open_clip itself can encode."""
    spec = TextSpec(*write_tiny_clip(tmp_path, config={**tiny_config(**text), "custom_text": True}))
    tower = get_tower(load_tower(spec), "cpu")
    context = tower.token_embedding.weight[torch.tensor(tower.token_ids("a photo of a"))]
    rows = encode_context(tower, context, pack_names(tower, NAMES, 4))
    clip = open_clip.create_model(spec.model, pretrained=spec.pretrained).eval()
    texts = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
    with torch.no_grad():
        wanted = clip.encode_text(open_clip.tokenize(texts), normalize=True)
    torch.testing.assert_close(rows, wanted, atol=1e-6, rtol=0)


def test_word_embeddings_as_context_are_the_written_prompt(tower: TextTower) -> None:
    words = torch.tensor(tower.token_ids("a photo of a"))
    rows = encode_context(tower, tower.token_embedding.weight[words], pack_names(tower, NAMES, 4))
    torch.testing.assert_close(rows, encode_templates(tower, NAMES, "single"), atol=1e-6, rtol=0)
