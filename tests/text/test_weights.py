"""Wrong models, tags and files are refused before anything is learned; tags find their files."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.pretrained import _PRETRAINED
from safetensors.torch import load_file

from subpt_dense.text import TextSpec, load_tower
from subpt_dense.text.weights import check_model, read_shapes, resolve_weights
from tests.tiny_clip import register_config, save_weights, tiny_config, write_tiny_clip

Clip = tuple[str, str]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("ViT-B-16-SigLIP", "Got 'ViT-B-16-SigLIP': it does not use CLIP's own tokenizer."),
        ("roberta-ViT-B-32", "its text tower comes from transformers"),
        ("ViT-H-14-worldwide", "own tokenizer; it is read by 'eos', which is none of argmax, first, last"),
        ("coca_ViT-B-32", "it appends a class token; it has a captioning decoder"),
    ],
)
def test_unsuitable_models(model: str, reason: str) -> None:
    with pytest.raises(ValueError, match="must have CLIP's own text tower and tokenizer") as caught:
        load_tower(TextSpec(model, "never-looked-at"))
    assert reason in str(caught.value)


@pytest.mark.parametrize("model", ["RN50-quickgelu", "ViT-B-32-quickgelu", "ViT-L-14", "EVA02-B-16", "MobileCLIP-S1"])
def test_suitable_models(model: str) -> None:
    check_model(model)


def test_unknown_model_lists_close_ones() -> None:
    with pytest.raises(ValueError, match=r"Got 'ViT-B32'\. Did you mean .*'ViT-B-32'"):
        load_tower(TextSpec("ViT-B32", "openai"))
    with pytest.raises(ValueError, match=r"Got 'hf-hub:some/model'"):
        load_tower(TextSpec("hf-hub:some/model", "openai"))


def test_neither_tag_nor_file(tiny_clip: Clip) -> None:
    with pytest.raises(FileNotFoundError, match=r"a tag of 'ViT-B-16-plus-240' \('laion400m_e31', .*Got 'openai'"):
        load_tower(TextSpec("ViT-B-16-plus-240", "openai"))
    with pytest.raises(FileNotFoundError, match=r"\(none\) or the path of a weights file. Got 'no/such.pt'"):
        load_tower(TextSpec(tiny_clip[0], "no/such.pt"))


def test_unknown_kind_of_file(tiny_clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"a file in \.safetensors, \.pt, \.pth, \.bin\. Got '.*weights\.npz'"):
        load_tower(TextSpec(tiny_clip[0], str(path)))


@pytest.mark.parametrize(
    ("model", "tag", "right"),
    [("ViT-B-32", "openai", "ViT-B-32-quickgelu"), ("ViT-B-16", "dfn2b", "ViT-B-16-quickgelu")],
)
def test_a_tag_of_the_other_activation(model: str, tag: str, right: str) -> None:
    with pytest.raises(ValueError, match=rf"must be '{right}' for the weights '{tag}'.*with QuickGELU. Got '{model}'"):
        load_tower(TextSpec(model, tag))


def test_a_failed_download_points_to_local_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip, "download_pretrained", unreachable)
    with pytest.raises(RuntimeError) as caught:
        load_tower(TextSpec("ViT-L-14-quickgelu", "openai"))
    assert "The weights 'openai' of 'ViT-L-14-quickgelu' could not be downloaded. Got OSError: no route" in str(
        caught.value
    )
    assert "`pretrained=<path>` of TextSpec accepts a local weights file" in str(caught.value)


def test_a_tag_is_fetched_once(tiny_clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(config: dict, **_: object) -> str:
        calls.append(config["url"])
        return tiny_clip[1]

    monkeypatch.setitem(_PRETRAINED, tiny_clip[0], {"mytag": {"url": "https://example.org/w", "quick_gelu": True}})
    monkeypatch.setattr(open_clip, "download_pretrained", download)
    first = load_tower(TextSpec(tiny_clip[0], "mytag"))
    assert first.weights_hash == load_tower(TextSpec(*tiny_clip)).weights_hash
    assert resolve_weights(TextSpec(tiny_clip[0], "mytag")) == Path(tiny_clip[1])
    assert calls == ["https://example.org/w"]


def _truncated(source: Path, path: Path) -> None:
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])


def _garbage(source: Path, path: Path) -> None:
    path.write_bytes(b"not weights at all" * 10)


def _empty(source: Path, path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_truncated, _garbage, _empty])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_corrupt_files(tmp_path: Path, tiny_clip: Clip, damage: Callable, suffix: str) -> None:
    whole, broken = tmp_path / f"whole{suffix}", tmp_path / f"broken{suffix}"
    save_weights(whole, load_file(tiny_clip[1]))
    damage(whole, broken)
    with pytest.raises(ValueError, match=r"a whole file of tensors. '.*broken\..*' cannot be read"):
        load_tower(TextSpec(tiny_clip[0], str(broken)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}}, "holds other things"),
        ([1, 2], "holds other things"),
        ({"weight": torch.zeros(1), "epoch": 3}, "holds other things"),
        ({"path": Path("x")}, "holds Python objects"),
    ],
)
def test_files_of_other_things(tmp_path: Path, tiny_clip: Clip, content: object, message: str) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        load_tower(TextSpec(tiny_clip[0], str(path)))


@pytest.mark.filterwarnings("ignore:'torch.load' received a zip")
def test_a_torchscript_archive_points_to_the_tag(tmp_path: Path, tiny_clip: Clip) -> None:
    path = tmp_path / "ViT-B-32.pt"
    with zipfile.ZipFile(path, "w") as archive:  # what torch recognises one by
        archive.writestr("archive/constants.pkl", b"")
        archive.writestr("archive/data.pkl", b"")
        archive.writestr("archive/version", b"3")
    with pytest.raises(ValueError, match="it is a TorchScript archive, .*; the tag 'openai' names the same weights"):
        load_tower(TextSpec(tiny_clip[0], str(path)))


def test_not_a_number(tmp_path: Path, tiny_clip: Clip) -> None:
    state = load_file(tiny_clip[1])
    state["ln_final.weight"][3] = float("nan")
    save_weights(tmp_path / "nan.pt", state)
    with pytest.raises(ValueError, match=r"must be finite. Got NaN or infinity in ln_final.weight\."):
        load_tower(TextSpec(tiny_clip[0], str(tmp_path / "nan.pt")))


def _drop(state: dict[str, torch.Tensor]) -> None:
    del state["ln_final.weight"], state["positional_embedding"]


def _add(state: dict[str, torch.Tensor]) -> None:
    state["adapter.weight"] = torch.zeros(2)


def _narrow(state: dict[str, torch.Tensor]) -> None:
    state["text_projection"] = state["text_projection"][:, :20].clone()


def _narrow_positions(state: dict[str, torch.Tensor]) -> None:
    state["positional_embedding"] = state["positional_embedding"][:, :20].clone()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, "2 missing from the file: positional_embedding; ln_final.weight."),
        (_add, "1 unknown to the model: adapter.weight."),
        (_narrow, "1 of another shape: text_projection [32, 20], the model has [32, 24]."),
        (_narrow_positions, "1 of another shape: positional_embedding [77, 20], the model has [77, 32]."),
    ],
)
def test_a_file_that_does_not_fit_names_both_sides(
    tmp_path: Path, tiny_clip: Clip, change: Callable, message: str
) -> None:
    state = load_file(tiny_clip[1])
    change(state)
    path = tmp_path / "changed.safetensors"
    save_weights(path, state)
    with pytest.raises(ValueError) as caught:
        load_tower(TextSpec(tiny_clip[0], str(path)))
    assert f"must hold the weights of '{tiny_clip[0]}'. '{path}' does not fit" in str(caught.value)
    assert message in str(caught.value)


def test_another_architecture(tmp_path: Path, tiny_clip: Clip) -> None:
    deeper, _ = write_tiny_clip(tmp_path, config=tiny_config(layers=3))
    with pytest.raises(ValueError, match=r"12 missing from the file: transformer.resblocks.2.* \.\.\.\."):
        load_tower(TextSpec(deeper, tiny_clip[1]))


def test_open_clip_must_not_interpolate_text_positions(tmp_path: Path, tiny_clip: Clip) -> None:
    shorter = register_config(tmp_path, tiny_config(context_length=40))
    with pytest.raises(ValueError, match=r"which reads 40 tokens. '.*' has text positions for 77\."):
        load_tower(TextSpec(shorter, tiny_clip[1]))


@pytest.mark.parametrize(
    "wrap", [dict, lambda s: {"state_dict": s}, lambda s: {f"module.{k}": v for k, v in s.items()}]
)
def test_shapes_are_read_through_training_wrappers(tmp_path: Path, tiny_clip: Clip, wrap: Callable) -> None:
    path = tmp_path / "wrapped.pt"
    torch.save(wrap(load_file(tiny_clip[1])), path)
    assert read_shapes(path) == read_shapes(Path(tiny_clip[1]))
    key = load_tower(TextSpec(tiny_clip[0], str(path)))
    assert key.weights_hash == load_tower(TextSpec(*tiny_clip)).weights_hash
