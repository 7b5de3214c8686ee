"""The command lines of the seed runs and of the study: what they pass on, print and exit with."""

import argparse
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tool_{name}", TOOLS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def summary(failures: list[Any]) -> dict[str, Any]:
    head = {"base": [1.0], "novel": [2.0], "h": [1.5], "best": None}
    return {"heads": {"coop": head}, "failures": failures, "seeds": [1], "commit": "abc", "run_seconds": 3.0}


@pytest.mark.parametrize(("text", "seeds"), [("1-3,7", [1, 2, 3, 7]), ("5", [5]), ("2,1", [2, 1])])
def test_parse_seeds(text: str, seeds: list[int]) -> None:
    assert load("run_seeds").parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,1", "1-3,2"])
def test_parse_seeds_refuses(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="numbers and ranges such as 1-10"):
        load("run_seeds").parse_seeds(text)


@pytest.mark.parametrize("failures", [[], [{"head": "coop", "seed": 2, "error": "x"}]])
def test_run_seeds(failures: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    module, asked = load("run_seeds"), {}
    monkeypatch.setattr(module, "run_seeds", lambda *args, **more: asked.update(args=args, **more) or summary(failures))
    argv = "run_seeds a/coop.py b/nfl.py --seeds 1-2 --work-dir w --jobs 3 --cfg-options model.prompt.length=8"
    monkeypatch.setattr("sys.argv", argv.split())
    if failures:
        with pytest.raises(SystemExit, match="1"):
            module.main()
    else:
        module.main()
    assert asked["args"] == ({"coop": Path("a/coop.py"), "nfl": Path("b/nfl.py")}, [1, 2], Path("w"))
    assert asked["options"] == {"model.prompt.length": 8} and asked["jobs"] == 3
    printed = capsys.readouterr().out
    assert "| coop | 1     | 1.0 " in printed and ("Failed: coop seed 2." in printed) is bool(failures)


def test_run_seeds_refuses_two_files_of_one_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["run_seeds", "a/coop.py", "b/coop.py"])
    with pytest.raises(SystemExit):
        load("run_seeds").main()
    assert "config files must have different names. Got coop, coop." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "full", "expected"),
    [
        ("", False, {"seeds": range(1, 11), "setting": "fast", "split": 0, "clip_seed": 0, "root": "data/toy_cls"}),
        ("--splits 2 --seeds 3", False, {"seeds": range(1, 4), "split": 2, "root": "data/toy_cls_split2"}),
        ("--full", True, {"seeds": range(1, 6), "settings": ["fast", "paper"], "splits": None}),
        ("--clip-seeds 0 1 --settings paper", True, {"clip_seeds": [0, 1], "settings": ["paper"]}),
    ],
)
def test_study(
    argv: str, full: bool, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module, asked = load("study_cls"), {}
    for name in ("run_study", "run_full_study"):
        monkeypatch.setattr(
            module,
            name,
            lambda work_dir, *, name=name, **more: asked.update(name=name, to=work_dir, **more) or summary([]),
        )
    monkeypatch.setattr("sys.argv", ["study_cls", *argv.split()])
    monkeypatch.chdir(tmp_path)
    module.main()
    assert asked["name"] == ("run_full_study" if full else "run_study")
    assert asked["to"] == Path("work_dirs") / ("study_cls_full" if full else "study_cls")
    assert {key: asked[key] for key in expected} == expected
