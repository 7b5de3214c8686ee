"""Rows files and RowsPrompt: round trip, look-up by name, and everything that must be refused."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.functional import normalize

from subpt_dense.prompts import RowsPrompt, load_foreign_rows, load_rows, save_rows
from subpt_dense.prompts import rows_file as rows_file_module

NAMES = ("cat", "traffic light", "dög")
ORIGIN = {"backbone": "ViT-B-32", "weights": "openai", "weights_hash": "ab" * 32, "prompt": "CoOp, 16 tokens"}


@pytest.fixture
def rows() -> torch.Tensor:
    return normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), dim=1)


@pytest.fixture
def path(tmp_path, rows):
    path = tmp_path / "rows.safetensors"
    save_rows(path, rows, NAMES, **ORIGIN)
    return path


def test_round_trip(path, rows):
    loaded = load_rows(path)
    assert torch.equal(loaded.rows, rows) and loaded.rows.dtype == torch.float32
    assert loaded.names == NAMES
    assert loaded.metadata == {**ORIGIN, "normalised": True}
    assert os.listdir(path.parent) == [path.name]


def test_metadata_can_be_read_with_safetensors_alone(path):
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    assert metadata["format"] == "subpt_dense.rows" and metadata["version"] == "1"
    assert json.loads(metadata["names"]) == list(NAMES) and metadata["backbone"] == "ViT-B-32"


def test_rows_need_not_be_normalised(tmp_path, rows):
    path = tmp_path / "new folder" / "raw.safetensors"
    save_rows(path, (3 * rows).double().requires_grad_(), NAMES, normalised=False, **ORIGIN)
    assert load_rows(path).metadata["normalised"] is False
    torch.testing.assert_close(load_rows(path).unit_rows(), rows)
    torch.testing.assert_close(RowsPrompt(path, NAMES)(), rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "rows.pt"}, "must end in .safetensors. Got '.*rows.pt'"),
        ({"names": NAMES[:2]}, r"must have shape \[2, D\], one row a name. Got \[3, 8\]"),
        ({"names": [f"n{i}" for i in range(8)]}, r"\[8, D\].* Got \[3, 8\]. It seems to be transposed"),
        ({"names": ("cat", "cat", "dog")}, "must be distinct"),
        ({"rows": torch.ones(3, 8)}, "must be unit rows. Got: 'cat' has length 2.828"),
        ({"rows": torch.eye(3, 8) * torch.tensor([[1.0], [0.0], [1.0]])}, "'traffic light' has length 0"),
        ({"rows": torch.full((3, 8), float("nan")), "normalised": False}, "must be finite and not zero.*'cat'"),
        ({"rows": torch.ones(3)}, r"Got \[3\]"),
        ({"backbone": ""}, "`backbone` of rows file .* must not be empty"),
        ({"weights": " "}, "`weights` of rows file .* must not be empty"),
        ({"prompt": ""}, "`prompt` of rows file .* must not be empty"),
    ],
)
def test_save_refuses(tmp_path, rows, changes, message):
    arguments = {"path": "rows.safetensors", "rows": rows, "names": NAMES, **ORIGIN, **changes}
    arguments["path"] = tmp_path / arguments["path"]
    with pytest.raises(ValueError, match=message):
        save_rows(**arguments)
    assert not os.listdir(tmp_path)


def test_a_failed_write_leaves_the_old_file(path, rows, monkeypatch):
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(rows_file_module.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_rows(path, rows.flip(0), NAMES, **ORIGIN)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_every_changed_byte_is_noticed(path):
    good = path.read_bytes()
    for position in range(0, len(good), 5):
        damaged = bytearray(good)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged|not a rows file|format version"):
            load_rows(path)


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="cannot be read as safetensors: damaged, or of another kind"):
        load_rows(path)


def test_another_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"not a rows file: .* Got None and the tensors \['weight'\]"):
        load_rows(path)


def test_another_version_is_refused(path, rows, monkeypatch):
    monkeypatch.setattr(rows_file_module, "VERSION", "2")
    with pytest.raises(ValueError, match="version of .* must be '2'. Got '1'"):
        load_rows(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.safetensors' does not exist"):
        RowsPrompt(tmp_path / "nowhere.safetensors")


def test_look_up_by_name(path, rows):
    head = RowsPrompt(path, ["DÖG", "traffic_light"])
    torch.testing.assert_close(head(), rows[[2, 1]])
    assert head.embed_dim == 8 and head.prompt_parameters() == {} and head.auxiliary_losses() == {}


def test_missing_names_are_listed(path):
    message = r"names in .*rows\.safetensors, which holds 3\. Got 2 others: 'lynx', 'fox'\."
    with pytest.raises(ValueError, match=message):
        RowsPrompt(path, ("cat", "lynx", "fox"))
    head = RowsPrompt(path, ("cat",))
    with pytest.raises(ValueError, match=message):
        head.vocabulary = ("lynx", "cat", "fox")
    assert head.vocabulary == ("cat",)
    with pytest.raises(ValueError, match=r"Got 30 others: .*'name19' and more\."):
        head.vocabulary = [f"name{i}" for i in range(30)]


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"backbone": "RN50"}, r"`backbone` of RowsPrompt must be .*'ViT-B-32' \(openai\)\. Got 'RN50'\."),
        ({"weights_hash": "cd" * 32}, "`weights_hash` of RowsPrompt must be .*'abab.* Got 'cdcd"),
        ({"names": ["cat"]}, "`names` of RowsPrompt must not be given"),
    ],
)
def test_rows_of_another_backbone_are_refused(path, expected, message):
    assert RowsPrompt(path, backbone="ViT-B-32", weights_hash="ab" * 32).identity()["backbone"] == "ViT-B-32"
    with pytest.raises(ValueError, match=message):
        RowsPrompt(path, **expected)


def test_identity_tells_rows_apart(path, rows, tmp_path):
    save_rows(tmp_path / "other" / path.name, rows.flip(0), NAMES, **ORIGIN)
    one, other = RowsPrompt(path).identity(), RowsPrompt(tmp_path / "other" / path.name).identity()
    assert one["file"] == path.name and {key for key in one if one[key] != other[key]} == {"rows_sha256"}


@pytest.fixture(params=["npy", "npy-fp16", "pt", "pth"])
def foreign(request, tmp_path, rows):
    path = tmp_path / f"foreign.{request.param.split('-')[0]}"
    if path.suffix == ".npy":
        array = (5 * rows).numpy()
        np.save(path, array.astype(np.float16) if "fp16" in request.param else array)
    else:
        torch.save(5 * rows, path)
    return path


@pytest.mark.parametrize("listed", [True, False], ids=["list", "txt"])
def test_foreign_rows(foreign, rows, tmp_path, listed):
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n\n", encoding="utf-8")
    names = NAMES if listed else str(tmp_path / "names.txt")
    head = RowsPrompt(foreign, ("dög", "cat"), names=names, backbone="ViT-B-32")
    torch.testing.assert_close(head(), rows[[2, 0]], rtol=0, atol=1e-3)
    assert head.identity()["backbone"] == "ViT-B-32" and head.identity()["weights"] == "not stated"
    torch.testing.assert_close(load_foreign_rows(foreign, names, "x").rows, 5 * rows, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "stated", [{}, {"names": NAMES}, {"backbone": "x"}, {"names": NAMES, "backbone": "x", "weights_hash": "ab"}]
)
def test_foreign_rows_need_names_and_backbone(foreign, stated):
    with pytest.raises(ValueError, match="`names` and `backbone` of RowsPrompt must be given for .*foreign"):
        RowsPrompt(foreign, **stated)


class Custom:
    """Would run code of its own if it were unpickled."""

    def __reduce__(self):
        return os.getcwd, ()


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [
        ("a.pt", {"rows": torch.ones(3, 8)}, "Got a dict"),
        ("a.pt", torch.ones(3, 8, dtype=torch.int64), "Got a tensor of torch.int64"),
        ("a.pt", Custom(), "no Python objects. It cannot be read"),
        ("a.npy", np.array([Custom()], dtype=object), "no Python objects. It cannot be read"),
        ("a.npy", np.ones((8, 3), dtype=np.float32), r"must have shape \[3, D\].*It seems to be transposed"),
        ("a.npy", np.ones((3, 8, 1), dtype=np.float32), r"Got \[3, 8, 1\]"),
        ("a.bin", b"", "must be a .npy, .pt or .pth file"),
        ("a.pt", b"no torch file", "cannot be read"),
        ("a.npy", b"no array", "cannot be read"),
    ],
)
def test_foreign_files_that_are_refused(tmp_path, file, value, message):
    path = tmp_path / file
    if isinstance(value, bytes):
        path.write_bytes(value)
    elif path.suffix == ".npy":
        np.save(path, value, allow_pickle=True)
    else:
        torch.save(value, path)
    with pytest.raises(ValueError, match=message):
        load_foreign_rows(path, NAMES, "ViT-B-32")


def test_foreign_rows_without_backbone(foreign):
    with pytest.raises(ValueError, match="`backbone` of .* must be stated"):
        load_foreign_rows(foreign, NAMES, "")
