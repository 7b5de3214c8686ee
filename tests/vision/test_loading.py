"""One tower a process, found by key, refused when the weights have changed."""

import open_clip
import pytest
import torch

from subpt_dense.vision import get_dense_tower, load_dense_tower, loading
from tests.vision.image_clips import pictures, write_image_clip


def test_a_process_has_one_and_draws_nothing(image_clips, monkeypatch):
    for cache in ("_HASHES", "_TOWERS"):
        monkeypatch.setattr(loading, cache, {})
    state = torch.get_rng_state()
    first, second = (load_dense_tower(**image_clips["transformer"]) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state()) and first == second
    assert get_dense_tower(first, "cpu") is get_dense_tower(second, torch.device("cpu"))


def test_a_process_that_never_saw_it_loads_it_again(image_clips, monkeypatch):
    key = load_dense_tower(**image_clips["transformer"])
    expected = get_dense_tower(key, "cpu").dense(pictures(1))
    for cache in ("_HASHES", "_TOWERS"):
        monkeypatch.setattr(loading, cache, {})
    assert torch.equal(get_dense_tower(key, "cpu").dense(pictures(1)), expected)


def test_it_works_with_a_graph_when_first_asked_for_in_inference_mode(image_clips, monkeypatch):
    for cache in ("_HASHES", "_TOWERS"):
        monkeypatch.setattr(loading, cache, {})
    with torch.inference_mode():
        tower = get_dense_tower(load_dense_tower(**image_clips["toy"]), "cpu")
    weights = torch.ones(64, requires_grad=True)
    (tower.dense(pictures(1)) * weights[:, None, None]).sum().backward()
    assert weights.grad is not None


def test_weights_that_changed_on_disk_are_refused(tmp_path, monkeypatch):
    files = write_image_clip(tmp_path, "transformer", seed=1)
    key = load_dense_tower(**files)
    other = write_image_clip(tmp_path, "transformer", seed=2)
    with open(other["pretrained"], "rb") as source, open(files["pretrained"], "wb") as target:
        target.write(source.read())
    assert get_dense_tower(key, "cpu").weights_hash == key.weights_hash  # this process has seen the first ones
    monkeypatch.setattr(loading, "_TOWERS", {})
    with pytest.raises(RuntimeError, match=f"SHA-256 {key.weights_hash}. Got"):
        get_dense_tower(key, "cpu")


def test_missing_and_foreign_weights_are_refused(image_clips, tmp_path):
    model = image_clips["transformer"]["model"]
    with pytest.raises(FileNotFoundError, match="none.pt"):
        load_dense_tower(model, str(tmp_path / "none.pt"))
    with pytest.raises(ValueError, match="does not fit"):
        load_dense_tower(model, image_clips["resnet"]["pretrained"])


def test_hashes_tell_text_from_image(image_clips):
    keys = {kind: load_dense_tower(**files) for kind, files in image_clips.items()}
    towers = [get_dense_tower(key, "cpu") for key in keys.values()]
    assert len({tower.weights_hash for tower in towers} | {tower.text_hash for tower in towers}) == 2 * len(towers)


def test_the_scale_is_the_clip_s(image_clips):
    for files in image_clips.values():
        clip = open_clip.create_model(files["model"], pretrained=files["pretrained"])
        expected = clip.logit_scale.exp().item()
        assert get_dense_tower(load_dense_tower(**files), "cpu").scale == pytest.approx(expected) and expected > 1
