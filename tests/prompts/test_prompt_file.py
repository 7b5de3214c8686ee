"""Prompt files: everything a head has learned comes back, with every fact; what is incomplete is not written."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from subpt_dense.prompts import ConditionalPrompt, ContextPrompt, load_prompt, save_prompt, save_rows
from subpt_dense.prompts import prompt_file as prompt_file_module
from subpt_dense.prompts.prompt_file import FACTS
from tests.prompts.conftest import NAMES, Build

RUN = {
    "seed": 3,
    "commit": "abc1234+",
    "protocol": "toy 48/17",
    "config": "cls_toy_subpt.py",
    "scores": {"base": 91.25, "novel": 80},
    "subspace": {"rank": 5, "explore": 0.2, "basis": "ab" * 32},
    "epoch": 60,
    "iteration": None,
}


@pytest.fixture
def learned(build: Build) -> ContextPrompt:
    head = build("nfl-kgcoop")
    head.context.data.add_(0.25)
    return head


@pytest.fixture
def path(tmp_path: Path, learned: ContextPrompt) -> Path:
    path = tmp_path / "run" / "prompt.safetensors"
    save_prompt(path, learned, facts=RUN)
    return path


def test_round_trip(path: Path, learned: ContextPrompt) -> None:
    loaded = load_prompt(path)
    assert list(loaded.parameters) == ["context"] and loaded.parameters["context"].dtype == torch.float32
    assert torch.equal(loaded.parameters["context"], learned.context)
    torch.testing.assert_close(loaded.initial + 0.25, learned.context.detach())
    assert loaded.names == NAMES and loaded.facts == RUN and list(loaded.facts) == list(FACTS)
    assert loaded.identity == json.loads(json.dumps(learned.identity()))
    keys = {
        "type",
        "backbone",
        "weights",
        "weights_hash",
        "precision",
        "length",
        "width",
        "position",
        "init",
        "anchors",
    }
    assert set(loaded.identity) == keys
    assert loaded.anchors == (
        {"name": "nfl", "kind": "generic", "names": ["lynx", "wolf"]},
        {"name": "kgcoop", "kind": "trained", "names": None},
    )
    assert os.listdir(path.parent) == [path.name]


def test_metadata_can_be_read_with_safetensors_alone(path: Path) -> None:
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["version"]) == ("subpt_dense.prompt", "1")
    contents = {key: json.loads(metadata[key]) for key in ("identity", "names", "anchors", *FACTS)}
    assert set(metadata) == {*contents, "format", "version", "sha256"}
    assert contents["identity"]["length"] == 3 and contents["scores"] == {"base": 91.25, "novel": 80.0}


def test_absent_facts_are_null(tmp_path: Path, learned: ContextPrompt) -> None:
    for facts in (None, {}, {"seed": None}):
        save_prompt(tmp_path / "a.safetensors", learned, facts=facts)
        assert load_prompt(tmp_path / "a.safetensors").facts == dict.fromkeys(FACTS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_numbers_are_written_as_float32(tmp_path: Path, learned: ContextPrompt, dtype: torch.dtype) -> None:
    save_prompt(tmp_path / "a.safetensors", learned.to(dtype))
    loaded = load_prompt(tmp_path / "a.safetensors")
    assert loaded.parameters["context"].dtype == loaded.initial.dtype == torch.float32
    assert torch.equal(loaded.parameters["context"], learned.context.float())


def test_a_head_with_more_parameters(tmp_path: Path, build: Build) -> None:
    """CoCoOp's: the file holds them by the head's names, and a head of the same kind takes them up."""
    text = build("context").key.spec
    heads = [ConditionalPrompt(text, length=2, vocabulary=NAMES).eval() for _ in range(2)]
    save_prompt(tmp_path / "a.safetensors", heads[0])
    loaded = load_prompt(tmp_path / "a.safetensors")
    names = {"context", "meta_in.weight", "meta_in.bias", "meta_out.weight", "meta_out.bias"}
    assert set(loaded.parameters) == names and loaded.identity["type"] == "ConditionalPrompt"
    features = nn.functional.normalize(torch.randn(2, 24), dim=1)
    assert not torch.allclose(heads[1](features), heads[0](features))
    heads[1].load_state_dict({**loaded.parameters, "initial_context": loaded.initial})
    torch.testing.assert_close(heads[1](features), heads[0](features), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"lr": 0.1, "scores": {}},
            "`facts` of prompt file .*a.safetensors may hold seed, .*iteration. Got lr as well",
        ),
        ({"seed": "3"}, "`seed` of prompt file .* must be of type int. Got '3'"),
        ({"seed": True}, "`seed` .* must be of type int. Got True"),
        ({"commit": 7}, "`commit` .* must be of type str. Got 7"),
        ({"scores": {"base": "high"}}, "scores numbers"),
        ({"scores": {"base": float("nan")}}, "must be plain and finite"),
        ({"subspace": {"basis": torch.ones(2)}}, "must be plain and finite"),
    ],
)
def test_facts_that_are_refused(tmp_path: Path, learned: ContextPrompt, facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save_prompt(tmp_path / "a.safetensors", learned, facts=facts)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("template", {}, "must have learned parameters. Got TemplatePrompt"),
        ("rows", {}, "must have learned parameters. Got RowsPrompt"),
        ("learned", {}, "must have learned parameters. Got LearnedPrompt"),
        ("context", {"vocabulary": ()}, "must have a vocabulary, the trained names. ContextPrompt has none"),
    ],
)
def test_heads_that_are_refused(tmp_path: Path, build: Build, case: str, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save_prompt(tmp_path / "a.safetensors", build(case, **changes))
    assert not os.listdir(tmp_path)


def test_numbers_must_be_finite(tmp_path: Path, learned: ContextPrompt) -> None:
    learned.context.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="must be finite. Those of context are not"):
        save_prompt(tmp_path / "a.safetensors", learned)


def test_another_suffix_is_not_written(tmp_path: Path, learned: ContextPrompt) -> None:
    with pytest.raises(ValueError, match=r"`path` of a prompt file must end in .safetensors. Got '.*a\.pt'"):
        save_prompt(tmp_path / "a.pt", learned)


def test_a_changed_byte_is_refused(path: Path) -> None:
    good = path.read_bytes()
    for position in range(0, len(good), 7):
        path.write_bytes(good[:position] + bytes([good[position] ^ 4]) + good[position + 1 :])
        with pytest.raises(ValueError, match="damaged|not a prompt file|format version"):
            load_prompt(path)


def test_other_files_are_refused(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_rows(tmp_path / "rows.safetensors", torch.eye(2), ("a", "b"), backbone="x", weights="y", prompt="z")
    message = r"is not a prompt file.*'subpt_dense.prompt'. Got 'subpt_dense.rows'.*loads as subpt_dense.RowsPrompt"
    with pytest.raises(ValueError, match=message):
        load_prompt(tmp_path / "rows.safetensors")
    torch.save({"state_dict": {}}, tmp_path / "epoch_1.pth")
    with pytest.raises(ValueError, match=r"must end in .safetensors. Got '.*epoch_1.pth'. Checkpoints load by"):
        load_prompt(tmp_path / "epoch_1.pth")
    with pytest.raises(FileNotFoundError, match=r"The prompt file '.*none.safetensors' does not exist"):
        load_prompt(tmp_path / "none.safetensors")
    monkeypatch.setattr(prompt_file_module, "VERSION", "2")
    with pytest.raises(ValueError, match="version of .* must be '2'. Got '1'"):
        load_prompt(path)
