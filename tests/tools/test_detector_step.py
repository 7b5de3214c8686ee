"""The detector benchmark, from the command line to its file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toyworld.tiny_world import tiny_world

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "benchmarks" / "detector_step.py"
HEADS = ["coop", "subpt_nfl"]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script in another process, with ``folder`` as its working directory."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def test_every_contestant_is_timed_in_both_stages(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    world, file = tiny_world(tmp_path_factory), tmp_path / "found.json"
    before = sorted(world.rglob("*"))
    done = run(world, "--heads", *HEADS, "--seconds", "0", "--json", str(file))
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["rounds"] == {"train": 1, "test": 1}
    assert "1 threads" in found["device"] and found["commit"]
    for stage in ("train", "test"):
        took = found["step_ms"][stage]
        assert list(took) == ["linear", *HEADS] and list(found[stage]) == HEADS
        for head in HEADS:
            for field in ("cpu", "wall"):
                # With one round the median ratio is the ratio of the medians.
                assert found[stage][head][field] == pytest.approx(took[head][field] / took["linear"][field], rel=2e-3)
                assert found[stage][head][f"{field}_error"] is None
    for head in HEADS:
        part = found["test_part"][head]
        expected = 1 + part["extra_cpu_ms"] / found["step_ms"]["test"]["linear"]["cpu"]
        assert part["ratio"] == pytest.approx(expected, abs=2e-3)
    for shown in ("train: 1 rounds", "test: 1 rounds", *HEADS):
        assert shown in done.stdout
    assert sorted(world.rglob("*")) == before  # nothing is left behind
