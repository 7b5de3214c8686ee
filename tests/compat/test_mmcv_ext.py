"""The stand-in is there when nothing else is, names what it lacks, and gives way to a compiled extension."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import subpt_dense.compat
from subpt_dense.compat import MissingOperatorError, install
from subpt_dense.compat.mmcv_ext import MmcvExt


@pytest.fixture
def without_mmcv() -> Iterator[None]:
    """As if mmcv had not been imported yet; what was imported comes back afterwards."""

    def take() -> dict:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "mmcv"}

    before = take()
    yield
    take()
    sys.modules.update(before)


def write_mmcv(root: Path, **files: str) -> None:
    package = root / "mmcv"
    package.mkdir()
    for name, text in {"__init__": "", **files}.items():
        (package / f"{name}.py").write_text(text)


def test_stands_in_where_there_is_no_extension(
    without_mmcv: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mmcv(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    extension = importlib.import_module("mmcv._ext")
    assert isinstance(extension, MmcvExt)
    assert extension.nms is subpt_dense.compat.ops.OPERATORS["nms"]


def test_a_compiled_extension_wins(without_mmcv: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mmcv(tmp_path, _ext="def nms(): return 'compiled'")
    monkeypatch.syspath_prepend(tmp_path)
    install()
    extension = importlib.import_module("mmcv._ext")
    assert not isinstance(extension, MmcvExt)
    assert extension.nms() == "compiled"


def test_a_broken_extension_is_not_papered_over(
    without_mmcv: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mmcv(tmp_path, _ext="raise ImportError('undefined symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="undefined symbol"):
        importlib.import_module("mmcv._ext")


def test_without_mmcv_nothing_happens(without_mmcv: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmcv", None)
    install()
    with pytest.raises(ImportError, match="mmcv"):
        importlib.import_module("mmcv._ext")


def test_install_is_idempotent() -> None:
    install()
    before = list(sys.meta_path)
    install()
    assert sys.meta_path == before


@pytest.mark.parametrize("name", ["deform_conv_forward", "ms_deform_attn_forward", "nms_rotated", "carafe_forward"])
def test_a_missing_operator_is_named_when_called(name: str) -> None:
    operator = getattr(MmcvExt("mmcv._ext"), name)  # looking it up is what mmcv does on import: no error yet
    with pytest.raises(MissingOperatorError, match=rf"`{name}` of mmcv needs a compiled mmcv.*full mmcv==2\.1\.0"):
        operator(1, key=2)


def test_a_missing_operator_is_named_through_mmcv() -> None:
    ops = pytest.importorskip("mmcv.ops")
    if not isinstance(sys.modules["mmcv._ext"], MmcvExt):
        pytest.skip("a compiled mmcv is installed")
    with pytest.raises(MissingOperatorError, match="`nms_rotated`"):
        ops.nms_rotated(torch.rand(2, 5), torch.rand(2), 0.5)


def test_special_names_stay_missing() -> None:
    assert not hasattr(MmcvExt("mmcv._ext"), "__path__")
