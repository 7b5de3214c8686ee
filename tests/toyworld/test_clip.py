"""The shipped weights: whole, small, honest about their making, and good enough; and the way from them to open_clip."""

import hashlib
import os
import tomllib
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors import safe_open

from subpt_dense.text import TextSpec, encode_templates, get_tower, load_tower
from subpt_dense.toyworld import CLIP_SEEDS, MODEL_NAME, write_checkpoint
from subpt_dense.toyworld import clip as toy_clip
from subpt_dense.toyworld.clip import ASSETS, asset_path, expand, load_recipe, save_compact, verify
from subpt_dense.toyworld.concepts import class_split, neighbour_split
from subpt_dense.toyworld.crops import render_crops
from subpt_dense.toyworld.pretrain import normalise

FLOORS = {"base": 70.0, "novel": 76.0}
SPLITS = (class_split, neighbour_split)
PER_CLASS = {"base": 20, "novel": 40}
EMBEDDING = "token_embedding.weight"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {seed: write_checkpoint(seed, folder) for seed in CLIP_SEEDS}


@pytest.fixture(scope="module", params=SPLITS, ids=lambda split: split.__name__)
def split(request) -> dict:
    return dict(zip(FLOORS, request.param(0), strict=True))


@pytest.fixture(scope="module")
def crops(split) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Pictures and labels of each group, of a draw that neither training nor its own check has seen."""
    made = {}
    for number, (group, concepts) in enumerate(split.items()):
        labels = torch.arange(len(concepts)).repeat_interleave(PER_CLASS[group])
        made[group] = (normalise(render_crops(torch.tensor(concepts)[labels], seed=7_700_000_001 + number)), labels)
    return made


# ---- what is shipped -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", CLIP_SEEDS)
def test_zero_shot_floors(seed, checkpoints, crops, split):
    """Through open_clip's loader and this package's own text side, as any experiment uses it; within each group."""
    model = open_clip.create_model(MODEL_NAME, pretrained=str(checkpoints[seed])).eval()
    tower = get_tower(load_tower(TextSpec(MODEL_NAME, str(checkpoints[seed]))), "cpu")
    scores = {}
    for group, (images, labels) in crops.items():
        rows = encode_templates(tower, [concept.name for concept in split[group]], ["a photo of a {}."])
        with torch.inference_mode():
            features = torch.cat([model.encode_image(part) for part in images.split(240)])
        scores[group] = 100 * (features @ rows.T).argmax(1).eq(labels).float().mean().item()
    assert all(scores[group] >= floor for group, floor in FLOORS.items()), scores


def test_every_seed_is_another_clip():
    assert len({asset_path(seed).read_bytes() for seed in CLIP_SEEDS}) == len(CLIP_SEEDS) >= 3


@pytest.mark.parametrize("seed", CLIP_SEEDS)
def test_recipe_is_recorded(seed):
    recipe = load_recipe(asset_path(seed))
    assert recipe["seed"] == seed and recipe["steps"] == recipe["of"]
    assert {"batch", "lr", "zero_shot", "torch", "cpu_minutes"} <= {*recipe}
    assert len(recipe["zero_shot"]) == 2 and all(0 < score <= 100 for score in recipe["zero_shot"])


def test_assets_are_small_and_all_recorded():
    assert sum(path.stat().st_size for path in ASSETS.iterdir()) <= 9e6
    shipped = {path.name for path in ASSETS.glob("*.safetensors")}
    recorded = {line.split()[1] for line in (ASSETS / "SHA256SUMS").read_text().splitlines()}
    assert shipped == recorded == {asset_path(seed).name for seed in CLIP_SEEDS}
    for seed in CLIP_SEEDS:
        verify(asset_path(seed))


def test_assets_are_in_the_wheel():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = [pattern for some in project["tool"]["setuptools"]["package-data"].values() for pattern in some]
    for path in ASSETS.iterdir():
        assert any(path.match(pattern) for pattern in patterns), f"{path.name} is in none of {patterns}"


@pytest.mark.parametrize("seed", CLIP_SEEDS)
def test_weights_are_plain_finite_half_precision_tensors(seed):
    with safe_open(asset_path(seed), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    ids = tensors["token_ids"]
    assert 100 < len(ids) < 400 and ids[0] == 0 and (ids.diff() > 0).all() and ids[-1] < 49408
    assert len(tensors[EMBEDDING]) == len(ids)
    for value in tensors.values():
        assert value.dtype == torch.float16 if value.is_floating_point() else value.dtype == torch.int64
        assert torch.isfinite(value).all()
    assert 10 < tensors["logit_scale"].float().exp() <= 60.1


# ---- checksums -------------------------------------------------------------------------------------------------------


def test_a_flipped_byte_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(toy_clip, "ASSETS", tmp_path)
    content = bytearray((ASSETS / "clip_seed1.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "clip_seed1.safetensors").write_bytes(content)
    (tmp_path / "SHA256SUMS").write_text((ASSETS / "SHA256SUMS").read_text())
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(ValueError, match=rf"clip_seed1\.safetensors must have the sha256 [0-9a-f]{{64}} .*Got {found}"):
        write_checkpoint(1, tmp_path / "out")
    assert not [*(tmp_path / "out").glob("*")]


def test_a_file_that_is_not_recorded_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(toy_clip, "ASSETS", tmp_path)
    (tmp_path / "SHA256SUMS").write_text("")
    (tmp_path / "clip_seed0.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="must have the sha256 None"):
        verify(tmp_path / "clip_seed0.safetensors")


@pytest.mark.parametrize("seed", [3, -1, "0"])
def test_unknown_seeds(seed, tmp_path):
    with pytest.raises(ValueError, match=rf"`seed` of the tiny CLIP must be one of \(0, 1, 2\)\. Got {seed}"):
        write_checkpoint(seed, tmp_path)


# ---- from compact to full --------------------------------------------------------------------------------------------


def test_open_clip_loads_what_was_expanded(checkpoints):
    model = open_clip.create_model(MODEL_NAME, pretrained=str(checkpoints[0]))
    expanded, found = expand(asset_path(0)), model.state_dict()
    assert expanded.keys() == found.keys()
    assert all(torch.equal(expanded[name], found[name]) for name in found)
    assert all(value.dtype == torch.float32 for value in found.values() if value.is_floating_point())


def test_trained_rows_stand_at_their_ids_and_the_others_are_small(checkpoints):
    with safe_open(asset_path(0), framework="pt") as file:
        ids, rows = file.get_tensor("token_ids"), file.get_tensor(EMBEDDING).float()
    full = expand(asset_path(0))[EMBEDDING]
    assert full.shape == (49408, 128) and torch.equal(full[ids], rows)
    other = torch.ones(49408, dtype=torch.bool)
    other[ids] = False
    assert full[other].std().item() == pytest.approx(0.02, rel=0.01)
    tokenizer = open_clip.get_tokenizer(MODEL_NAME)
    known = {*tokenizer(["a photo of a red striped star."]).flatten().tolist()}
    assert known <= {*ids.tolist()}


def test_expansion_repeats_and_leaves_the_seed_alone():
    state = torch.get_rng_state()
    first, second = expand(asset_path(1)), expand(asset_path(1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_text_tower_loads_like_any_other(checkpoints):
    tower = get_tower(load_tower(TextSpec(MODEL_NAME, str(checkpoints[0]))), "cpu")
    assert (tower.width, tower.embed_dim, tower.context_length) == (128, 64, 32)
    assert 10 < tower.logit_scale <= 60.1
    model = open_clip.create_model(MODEL_NAME, pretrained=str(checkpoints[0])).eval()
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer(MODEL_NAME)(["a photo of a blue star."]), normalize=True)
    found = encode_templates(tower, ["blue star"], ["a photo of a {}."])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_checkpoint_of_the_shipped_weights_stays_and_another_is_replaced(tmp_path):
    path = write_checkpoint(2, tmp_path)
    written = path.stat().st_mtime_ns
    assert write_checkpoint(2, tmp_path) == path and path.stat().st_mtime_ns == written
    path.with_suffix(".sha256").write_text("of older weights")
    assert write_checkpoint(2, tmp_path).stat().st_mtime_ns > written


def test_nothing_is_left_beside_a_checkpoint(checkpoints):
    folder = next(iter(checkpoints.values())).parent
    assert sorted(os.listdir(folder)) == sorted(
        f"clip_seed{seed}.{end}" for seed in CLIP_SEEDS for end in ("pt", "sha256")
    )


def test_save_compact_and_expand_are_a_round_trip(tmp_path):
    state = expand(asset_path(0))
    ids = torch.tensor([0, 7, 49407])
    compact = {**state, EMBEDDING: state[EMBEDDING][ids]}
    save_compact(tmp_path / "c.safetensors", compact, ids, {"seed": 5, "zero_shot": [1.0, 2.0]})
    found = expand(tmp_path / "c.safetensors")
    assert torch.equal(found[EMBEDDING][ids], state[EMBEDDING][ids].half().float())
    assert all(torch.equal(found[name], state[name]) for name in state if name != EMBEDDING)  # they were half before
    assert load_recipe(tmp_path / "c.safetensors") == {"seed": 5, "zero_shot": [1.0, 2.0]}
    assert os.listdir(tmp_path) == ["c.safetensors"]


# ---- the architecture ------------------------------------------------------------------------------------------------


def test_the_image_tower_is_its_trunk_then_a_mean_then_a_linear(checkpoints):
    visual = open_clip.create_model(MODEL_NAME, pretrained=str(checkpoints[0])).visual.eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        dense = visual.trunk.forward_features(images)  # [B, 128, 8, 8]
        projected = torch.einsum("bchw,dc->bdhw", dense, visual.head.proj.weight) + visual.head.proj.bias[:, None, None]
        assert dense.shape == (2, 128, 8, 8)
        torch.testing.assert_close(visual(images), projected.mean((2, 3)), atol=1e-5, rtol=1e-4)
        assert visual.trunk.forward_features(torch.zeros(1, 3, 128, 192)).shape == (1, 128, 16, 24)


def test_parameters():
    model = open_clip.create_model(MODEL_NAME)
    parameters = sum(p.numel() for p in model.parameters()) - model.token_embedding.weight.numel()
    assert 1.0e6 < parameters < 1.4e6
