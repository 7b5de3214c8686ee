"""One clear line for each thing that can be missing before or after the installation."""

import builtins
import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "tools" / "preflight.py"


@pytest.fixture
def preflight() -> ModuleType:
    spec = importlib.util.spec_from_file_location("preflight", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fail_import(monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    real = builtins.__import__

    def fake(wanted: str, *args: Any, **kwargs: Any) -> Any:
        if wanted == name:
            raise ImportError(message)
        return real(wanted, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fake)


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 1), (3, 10, 13), (3, 13, 0), (4, 0, 0)])
def test_other_pythons_are_refused(preflight: ModuleType, version: tuple[int, int, int]) -> None:
    line = preflight.check_python(version)
    assert line.startswith(f"Python 3.11 or 3.12 is needed. Got {version[0]}.{version[1]} (")
    assert line.endswith("make PYTHON=/path/to/python3.12")


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 9)])
def test_python_fits(preflight: ModuleType, version: tuple[int, int, int]) -> None:
    assert preflight.check_python(version) is None


def test_missing_venv_module(preflight: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_import(monkeypatch, "ensurepip", "No module named 'ensurepip'")
    assert "sudo apt-get install python3.12-venv" in preflight.check_python((3, 12, 0))


def test_disk(preflight: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(100, 95, 3.2e9))
    line = preflight.check_disk(str(tmp_path), 8.0)
    assert line == f"At least 8 GB of free disk are needed in {tmp_path}. Got 3.2 GB."
    assert preflight.check_disk(str(tmp_path), 3.0) is None


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("libGL.so.1: cannot open shared object file", "sudo apt-get install libgl1 libglib2.0-0"),
        ("libgthread-2.0.so.0: cannot open shared object file", "sudo apt-get install libgl1 libglib2.0-0"),
        ("No module named 'cv2'", "Remove .venv and install again: make install"),
    ],
)
def test_opencv(preflight: ModuleType, monkeypatch: pytest.MonkeyPatch, error: str, advice: str) -> None:
    assert preflight.check_opencv() is None
    fail_import(monkeypatch, "cv2", error)
    line = preflight.check_opencv()
    assert error in line and line.endswith(advice)


def test_exit_status_and_single_line(
    preflight: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preflight.main("after") == 0
    fail_import(monkeypatch, "cv2", "libGL.so.1: cannot open shared object file")
    assert preflight.main("after") == 1
    assert capsys.readouterr().err.count("\n") == 1
