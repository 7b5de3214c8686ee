"""The benchmark of whole runs, from the command line to its file."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from subpt_dense.apis.seed_run import SeedRun
from subpt_dense.toyworld.crop_world import build_crop_world

ROOT = Path(__file__).parents[2]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script in another process, with ``folder`` as its working directory."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "tools" / "benchmarks" / "subpt_cost.py"), *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script's module: its own folder is on its path."""
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "benchmarks"))
    spec = importlib.util.spec_from_file_location("subpt_cost_tool", ROOT / "tools" / "benchmarks" / "subpt_cost.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    yield found
    sys.modules.pop("measure", None)


@pytest.mark.parametrize(("seconds", "kept"), [(0.125, "kept"), (0.3, "NOT kept")])
def test_ratios_of_known_runs(
    seconds: float, kept: str, module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Runs that burn a known time: the ratio is theirs, every run has a folder of its own, SubPT's is by the floor."""
    seen = []

    def burn(run: SeedRun) -> None:
        seen.append(run)
        end = time.process_time() + (seconds if run.head == "subpt" else 0.1)
        while time.process_time() < end:
            pass

    monkeypatch.setattr(module, "do_run", burn)
    found = module.measure({"subpt": "coop"}, Path("nowhere"), 3, quick=False)
    pair = found["pairs"]["subpt"]
    assert pair["cpu"] == pytest.approx(10 * seconds, rel=0.1) and pair["floor"] == pytest.approx(1.2)
    assert found["seconds"]["coop"]["cpu"] == pytest.approx(0.1, rel=0.1)
    assert len({run.folder for run in seen}) == len(seen) == 8  # one round to warm up
    pair["wall"] = pair["cpu"]  # other processes take wall time as they like
    module.show(found)
    assert f"limit 1.35: {kept}\n" in capsys.readouterr().out


@pytest.mark.slow
def test_side_by_side(tmp_path: Path) -> None:
    build_crop_world(tmp_path / "w", train=2, val=1, test=1, clip_seeds=(0,))
    done = run(tmp_path, "--root", "w", "--quick", "--rounds", "1", "--heads", "subpt", "--json", "found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    pair = found["pairs"]["subpt"]
    assert pair["over"] == "coop" and pair["floor"] == pytest.approx(1 + 2 / 5) and found["rounds"] == 1
    for field in ("cpu", "wall"):
        seconds = [found["seconds"][head][field] for head in ("subpt", "coop")]
        assert pair[field] == pytest.approx(seconds[0] / seconds[1]) and min(seconds) > 0
        assert pair[f"{field}_range"] == [pair[field]] * 2
    assert "1 threads" in found["device"]
    kept = max(pair["cpu"], pair["wall"]) <= found["limit"] == 1.35
    assert f"limit 1.35: {'kept' if kept else 'NOT kept'}" in done.stdout and "subpt" in done.stdout


def test_rounds_are_checked(module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.argv", ["subpt_cost", "--rounds", "0"])
    with pytest.raises(SystemExit):
        module.main()
    assert "--rounds must be at least 1. Got 0." in capsys.readouterr().err
