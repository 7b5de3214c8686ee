"""Training of the tiny CLIPs: its parts exactly, and two steps of it."""

import random

import open_clip
import pytest
import torch

from subpt_dense.toyworld import MODEL_NAME, pretrain
from subpt_dense.toyworld.captions import all_words
from subpt_dense.toyworld.clip import expand, load_recipe
from subpt_dense.toyworld.concepts import all_concepts
from subpt_dense.toyworld.pretrain import _batch, _Words, build_model, encode_texts, normalise, zero_shot


@pytest.fixture(scope="module")
def words():
    return _Words()


@pytest.fixture(scope="module")
def model(words):
    torch.manual_seed(0)
    return build_model(words).eval()


def test_normalise():
    images = torch.arange(256, dtype=torch.uint8).expand(1, 3, 4, 256)
    found = normalise(images)
    torch.testing.assert_close(found, (images.float() / 255 - 0.5) / 0.25)
    assert found.is_contiguous(memory_format=torch.channels_last) and found.abs().max() == 2


def test_words_are_the_tokenizers_with_consecutive_ids(words):
    texts = ["a photo of a red striped star.", "oval", "my friend found a golden banded box near the old lake"]
    compact = words(texts)
    assert compact.shape == (3, 32)
    assert torch.equal(words.ids[compact], words.tokenizer(texts))
    assert torch.equal(compact.argmax(1), words.tokenizer(texts).argmax(1))  # end of text is still the largest
    assert compact.max() == len(words.ids) - 1
    assert (words(all_words()) < len(words.ids)).all()


@pytest.mark.parametrize("text", ["a photo of a zebra.", "red!", "zzz"])
def test_unknown_words_are_refused(words, text):
    with pytest.raises(ValueError, match="words outside the toy world.*" + text):
        words(["a red star", text])


def test_encode_texts_is_open_clips(words, model):
    rng = random.Random(0)
    texts = [pretrain.caption(rng, concept, "sand") for concept in rng.sample(all_concepts(), 13)]
    tokens = words(texts)
    with torch.no_grad():
        expected = model.encode_text(tokens, normalize=True)
        torch.testing.assert_close(encode_texts(model, tokens), expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(encode_texts(model, tokens[:2]), expected[:2], atol=1e-6, rtol=0)


def test_a_batch_holds_each_concept_once_and_repeats(monkeypatch):
    seen = []
    monkeypatch.setattr(pretrain, "caption", lambda rng, concept, ground: seen.append((concept, ground)) or "a")
    images, texts = _batch(64, 5, random.Random(1))
    assert len({concept for concept, _ in seen}) == len(texts) == len(images) == 64
    assert len({ground for _, ground in seen}) == 6
    again, _ = _batch(64, 5, random.Random(1))
    assert torch.equal(images, again) and images.dtype == torch.uint8


def test_captions_name_the_ground_that_is_seen(monkeypatch):
    """Snow is brighter than night; which is which must not be shuffled between pictures and captions."""
    monkeypatch.setattr(pretrain, "caption", lambda rng, concept, ground: ground)
    images, grounds = _batch(200, 1, random.Random(2))
    corner = images[:, :, :8, :8].float().mean((1, 2, 3))
    mean = {ground: corner[[g == ground for g in grounds]].mean() for ground in ("snow", "night")}
    assert mean["snow"] - mean["night"] > 60


def test_zero_shot_counts(words, model):
    base, novel = zero_shot(model, words, per_class=1)
    assert 0 <= base < 30 and 0 <= novel < 50  # it has learned nothing


def test_two_steps_write_a_file_that_open_clip_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "zero_shot", lambda model, words: (1.0, 2.0))
    out = tmp_path / "clip.safetensors"
    pretrain.pretrain(seed=4, steps=2, batch=8, lr=1e-3, out=out)
    recipe = load_recipe(out)
    assert {key: recipe[key] for key in ("seed", "steps", "of", "batch", "lr", "zero_shot")} == {
        "seed": 4, "steps": 2, "of": 2, "batch": 8, "lr": 1e-3, "zero_shot": [1.0, 2.0],
    }  # fmt: skip
    torch.save(expand(out), tmp_path / "clip.pt")
    model = open_clip.create_model(MODEL_NAME, pretrained=str(tmp_path / "clip.pt"))
    assert torch.isfinite(model.encode_image(torch.zeros(1, 3, 64, 64))).all()
    assert model.logit_scale.exp() <= 60.1


def test_the_seed_decides_the_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "zero_shot", lambda model, words: (1.0, 2.0))
    made = []
    for number, seed in enumerate((1, 1, 2)):
        pretrain.pretrain(seed=seed, steps=1, batch=4, lr=1e-3, out=tmp_path / f"{number}.safetensors")
        made.append(expand(tmp_path / f"{number}.safetensors"))
    equal = [all(torch.equal(made[0][name], other[name]) for name in other) for other in made[1:]]
    assert equal == [True, False]


def test_command_line(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(pretrain, "pretrain", lambda *args: asked.append(args))
    monkeypatch.setattr(pretrain, "record_checksums", lambda: asked.append("recorded"))
    monkeypatch.setattr("sys.argv", ["pretrain", "--seed", "2", "--steps", "9"])
    pretrain.main()
    assert asked == [(2, 9, 128, 2e-3, pretrain.ASSETS / "clip_seed2.safetensors"), "recorded"]
    monkeypatch.setattr("sys.argv", ["pretrain", "--out", str(tmp_path / "mine.safetensors")])
    pretrain.main()
    assert asked[2:] == [(0, 3000, 128, 2e-3, tmp_path / "mine.safetensors")]
