"""Sealed files: round trip, every single changed byte refused, all or nothing on disk, old rows files readable."""

import base64
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from subpt_dense.prompts import load_rows, save_rows
from subpt_dense.prompts import sealed as sealed_module
from subpt_dense.prompts.sealed import read_sealed, write_bytes, write_sealed

KIND = {"kind": "subpt_dense.test", "version": "1"}
TENSORS = {
    "meta.weight": torch.tensor([[1.0, -2.0], [0.5, 3.0]]),
    "context": torch.arange(3, dtype=torch.float64),
    "count": torch.tensor(7),
    "none": torch.empty(0, 4),
}
METADATA = {
    "backbone": "ViT-B-32",
    "facts": json.dumps({"seed": 1, "name": 'dög "x" \\ \n\x01\x7f'}, ensure_ascii=False),
}
#: A rows file written before rows files were sealed by this module: safetensors 0.8, one tensor `rows` [2, 2].
OLD_ROWS = (
    "qAEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJzaGEyNTYiOiI4MmQ4MTI2NWE1YTNhMGE2ZDk3OWEwN2MzYWFjOGVlZmQ0ZDM2ZTczNWIzNTFkOGQw"
    "Nzc4YTUzY2U3NzZiYjcyIiwid2VpZ2h0cyI6Im9wZW5haSIsImZvcm1hdCI6InN1YnB0X2RlbnNlLnJvd3MiLCJiYWNrYm9uZSI6IlZpVC1CLTMy"
    "IiwicHJvbXB0IjoiQ29PcCwgMTYgdG9rZW5zXG5cdTAwMDF/IMOpIiwibmFtZXMiOiJbXCJjYXRcIiwgXCJkw7ZnIFxcXCJ4XFxcIiBcXFxcIHlc"
    "Il0iLCJ3ZWlnaHRzX2hhc2giOiJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFi"
    "IiwidmVyc2lvbiI6IjEiLCJub3JtYWxpc2VkIjoidHJ1ZSJ9LCJyb3dzIjp7ImR0eXBlIjoiRjMyIiwic2hhcGUiOlsyLDJdLCJkYXRhX29mZnNl"
    "dHMiOlswLDE2XX19AACAPwAAAACamRk/zcxMvw=="
)
OLD_ORIGIN = {
    "backbone": "ViT-B-32",
    "weights": "openai",
    "weights_hash": "ab" * 32,
    "prompt": "CoOp, 16 tokens\n\x01\x7f é",
}
REFUSED = "damaged|is not a test file|format version"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "new folder" / "a.safetensors"
    write_sealed(path, TENSORS, METADATA, **KIND)
    return path


def test_round_trip(path: Path) -> None:
    tensors, metadata = read_sealed(path, **KIND)
    assert metadata == METADATA and set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype
    tensors["context"].add_(1)  # nothing is mapped read-only
    assert os.listdir(path.parent) == [path.name] and path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.int64], ids=str)
def test_any_dtype_and_layout_of_memory(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.arange(6).reshape(2, 3).T.to(dtype)
    write_sealed(tmp_path / "a.safetensors", {"a": tensor}, {}, **KIND)
    assert torch.equal(read_sealed(tmp_path / "a.safetensors", **KIND)[0]["a"], tensor)


def test_views_of_one_tensor(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(3, 2)
    write_sealed(tmp_path / "a.safetensors", {"a": whole[0], "b": whole[1:], "c": whole}, {}, **KIND)
    tensors, _ = read_sealed(tmp_path / "a.safetensors", **KIND)
    assert torch.equal(tensors["a"], whole[0]) and torch.equal(tensors["b"], whole[1:])


def test_parameters_are_written_without_their_graph(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.safetensors", {"a": torch.nn.Parameter(torch.ones(2))}, {}, **KIND)
    assert not read_sealed(tmp_path / "a.safetensors", **KIND)[0]["a"].requires_grad


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF, 0x2A])
def test_every_changed_byte_is_refused(path: Path, flip: int) -> None:
    """Length, header, padding and data; 0x2A turns the padding's blanks into line feeds, which are blanks to JSON."""
    for filler in ("", "x"):  # one of two lengths in a row needs padding
        write_sealed(path, TENSORS, METADATA | {"filler": filler}, **KIND)
        good = path.read_bytes()
        if good[7 + int.from_bytes(good[:8], "little")] == ord(" "):
            break
    else:
        raise AssertionError("no header with padding")
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ flip]) + good[position + 1 :])
        with pytest.raises(ValueError, match=REFUSED):
            read_sealed(path, **KIND)
    path.write_bytes(good)
    assert read_sealed(path, **KIND)[1] == METADATA | {"filler": filler}


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d[:4], lambda d: b"", lambda d: d + b"\0"])
def test_another_length_is_refused(path: Path, change) -> None:
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match="cannot be read as safetensors: damaged, or of another kind"):
        read_sealed(path, **KIND)


def test_tensors_that_changed_names_are_refused(path: Path) -> None:
    """The same bytes under another name are another prompt."""
    tensors, _ = read_sealed(path, **KIND)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    renamed = {{"context": "contest"}.get(name, name): tensor for name, tensor in tensors.items()}
    save_file(renamed, path, metadata)
    with pytest.raises(ValueError, match="is damaged: its checksum"):
        read_sealed(path, **KIND)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"kind": "subpt_dense.rows"},
            r"is not a rows file: its format must be 'subpt_dense.rows'. Got 'subpt_dense.t",
        ),
        ({"kind": "subpt_dense.x", "hint": "Do this."}, r"the tensors \['context', 'count', 'meta.*'\]\. Do this\.$"),
        ({"version": "2"}, r"The format version of .*a\.safetensors must be '2'\. Got '1'\."),
    ],
)
def test_another_kind_or_version_is_refused(path: Path, asked: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_sealed(path, **{**KIND, **asked})


def test_safetensors_without_metadata_are_refused(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"is not a test file: .* Got None and the tensors \['w'\]\.$"):
        read_sealed(tmp_path / "a.safetensors", **KIND)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"The test file '.*none\.safetensors' does not exist\."):
        read_sealed(tmp_path / "none.safetensors", **KIND)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "a.pt"}, r"`path` of a test file must end in \.safetensors\. Got '.*a\.pt'"),
        ({"tensors": {}}, "`tensors` of test file .* must hold at least one"),
        ({"metadata": {"seed": 1}}, "`metadata` of .* must be strings.* Got seed=1"),
        ({"metadata": {"sha256": "x"}}, "under other keys than format, version, sha256. Got sha256='x'"),
    ],
)
def test_write_refuses(tmp_path: Path, changes: dict, message: str) -> None:
    arguments = {"path": "a.safetensors", "tensors": TENSORS, "metadata": METADATA, **changes}
    with pytest.raises(ValueError, match=message):
        write_sealed(tmp_path / arguments.pop("path"), **arguments, **KIND)
    assert not os.listdir(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "a", b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(sealed_module.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_old_rows_files_stay_readable(tmp_path: Path) -> None:
    (tmp_path / "old.safetensors").write_bytes(base64.b64decode(OLD_ROWS))
    loaded = load_rows(tmp_path / "old.safetensors")
    assert torch.equal(loaded.rows, torch.tensor([[1.0, 0.0], [0.6, -0.8]]))
    assert loaded.names == ("cat", 'dög "x" \\ y')
    assert loaded.metadata == {**OLD_ORIGIN, "normalised": True}


def test_new_rows_files_carry_the_old_checksum(tmp_path: Path) -> None:
    (tmp_path / "old.safetensors").write_bytes(base64.b64decode(OLD_ROWS))
    old = load_rows(tmp_path / "old.safetensors")
    save_rows(tmp_path / "new.safetensors", old.rows, old.names, **OLD_ORIGIN)
    metadata = []
    for name in ("old", "new"):
        with safe_open(tmp_path / f"{name}.safetensors", framework="pt") as file:
            metadata.append(file.metadata())
    assert metadata[0] == metadata[1] and len(metadata[0]["sha256"]) == 64


def test_a_rows_file_holds_rows_alone(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.safetensors", {"row": torch.ones(1)}, {}, kind="subpt_dense.rows", version="1")
    with pytest.raises(ValueError, match=r"must hold one tensor, 'rows'\. Got \['row'\]"):
        load_rows(tmp_path / "a.safetensors")
