"""One load per process and file; found again by key in another process, on another device, in another precision."""

import copy
import pickle
from pathlib import Path

import pytest
import torch

from subpt_dense.text import TextSpec, cache, encode_texts, get_tower, load_tower
from tests.tiny_clip import random_clip, register_config, save_weights, tiny_config

Clip = tuple[str, str]


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a new process knows."""
    monkeypatch.setattr(cache, "_HASHES", {})
    monkeypatch.setattr(cache, "_TOWERS", {})


def test_loaded_once(tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    key = load_tower(TextSpec(*tiny_clip))

    def fail(*_: object) -> None:
        raise AssertionError("loaded again")

    monkeypatch.setattr(cache, "_load", fail)
    assert load_tower(TextSpec(*tiny_clip)) == key
    assert load_tower(TextSpec(*tiny_clip, "bf16")).weights_hash == key.weights_hash
    assert get_tower(key, "cpu") is get_tower(copy.deepcopy(key), torch.device("cpu", 0))


def test_precisions_are_towers_of_their_own(tiny_clip: Clip) -> None:
    towers = [get_tower(load_tower(TextSpec(*tiny_clip, precision)), "cpu") for precision in ("fp32", "bf16", "fp16")]
    assert len({id(tower) for tower in towers}) == 3
    assert len({tower.weights_hash for tower in towers}) == 1
    assert {tower.token_embedding.weight.dtype for tower in towers} == {torch.float32}


def test_a_key_works_in_another_process(tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    key = load_tower(TextSpec(*tiny_clip, "bf16"))
    rows = encode_texts(get_tower(key, "cpu"), ["a cat."])
    _forget(monkeypatch)
    again = get_tower(pickle.loads(pickle.dumps(key)), "cpu")
    assert torch.equal(encode_texts(again, ["a cat."]), rows)


def test_weights_that_changed_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, path = register_config(tmp_path, tiny_config()), tmp_path / "w.pt"
    save_weights(path, random_clip(name, seed=1).state_dict())
    spec = TextSpec(name, str(path))
    key = load_tower(spec)
    save_weights(path, random_clip(name, seed=2).state_dict() | {"logit_bias": torch.zeros(0)})  # another size
    with pytest.raises(ValueError, match="1 unknown to the model: logit_bias"):
        load_tower(spec)
    save_weights(path, {k: v.double() for k, v in random_clip(name, seed=2).state_dict().items()})
    assert load_tower(spec).weights_hash != key.weights_hash
    assert get_tower(key, "cpu").weights_hash == key.weights_hash  # still in memory
    _forget(monkeypatch)
    with pytest.raises(RuntimeError, match=f"must be those of the key, SHA-256 {key.weights_hash}. Got "):
        get_tower(key, "cpu")


def test_one_file_under_two_activations(tmp_path: Path, tiny_clip: Clip) -> None:
    other = register_config(tmp_path, {**tiny_config(), "quick_gelu": False})
    keys = load_tower(TextSpec(*tiny_clip)), load_tower(TextSpec(other, tiny_clip[1]))
    assert keys[0].weights_hash == keys[1].weights_hash
    rows = [encode_texts(get_tower(key, "cpu"), ["a cat."]) for key in keys]
    assert not torch.allclose(*rows, atol=1e-4)


def test_loading_leaves_the_random_state(tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    _forget(monkeypatch)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    load_tower(TextSpec(*tiny_clip, "bf16"))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_tower_first_asked_for_in_inference_mode_can_train(tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    _forget(monkeypatch)
    with torch.inference_mode():
        tower = get_tower(load_tower(TextSpec(*tiny_clip, "bf16")), "cpu")
    assert not any(value.is_inference() for value in tower.modules.state_dict().values())
    assert not tower.attn_mask.is_inference()


@pytest.mark.gpu
def test_devices(tiny_clip: Clip) -> None:
    key = load_tower(TextSpec(*tiny_clip))
    tower = get_tower(key, "cuda")
    assert tower is get_tower(key, torch.device("cuda", torch.cuda.current_device()))
    assert tower.device.type == tower.attn_mask.device.type == "cuda"
    rows = encode_texts(tower, ["a cat.", "a hot dog."])
    assert torch.allclose(rows.cpu(), encode_texts(get_tower(key, "cpu"), ["a cat.", "a hot dog."]), atol=1e-4)
