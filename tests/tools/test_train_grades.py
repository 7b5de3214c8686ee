"""The command: its flags reach the run, and what is missing is said in a line."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train_grades.py", *arguments])
    monkeypatch.setenv("LOCAL_RANK", "0")
    runpy.run_path(str(ROOT / "tools" / "train_grades.py"), run_name="__main__")


def test_flags(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    calls: list[Any] = []

    def note(config: str, **options: Any) -> Path:
        calls.append((config, options))
        return tmp_path / "prompts.json"

    monkeypatch.setattr("subpt_dense.apis.grades.train_grades", note)
    run(["a.py", "--work-dir", "here", "--cfg-options", "randomness.seed=2", "model.prompt.length=4"], monkeypatch)
    options = {"randomness.seed": 2, "model.prompt.length": 4}
    assert calls == [("a.py", {"work_dir": "here", "options": options, "launcher": "none"})]
    assert capsys.readouterr().out == f"prompt list: {tmp_path / 'prompts.json'}\n"


def test_missing_data_ends_it_with_the_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = str(ROOT / "configs" / "cls_lvis_regions_subpt_nfl.py")
    with pytest.raises(SystemExit, match=r"error: This config needs data(.|\n)*lvis_v1_train_base.json(.|\n)*lvis-ovd"):
        run([config], monkeypatch)
