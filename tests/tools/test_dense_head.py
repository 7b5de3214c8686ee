"""The benchmark of a dense prompt's step, from the command line to its file."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script in another process, with ``folder`` as its working directory."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "tools" / "benchmarks" / "dense_head.py"), *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)


def test_quick(tmp_path: Path) -> None:
    done = run(tmp_path, "--quick", "--rounds", "1", "--classes", "9", "--json", "found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["classes"], found["images"], found["rounds"]) == (9, 2, 1)
    assert {*found["step_ms"]} == {"text", "cached", "images", "zsseg"} == {*found["memory"]}
    # The frozen tower keeps nothing for backward: with the images in every step it is the same as without them.
    memory = {name: each["saved_mib"] for name, each in found["memory"].items()}
    assert memory["text"] < memory["cached"] == memory["images"] < memory["zsseg"] / 3
    work = found["gigaflops"]
    assert work["text"] < work["cached"] < work["images"] < work["zsseg"]
    assert found["over_cached"]["zsseg"]["saved"] == memory["zsseg"] / memory["cached"]
    assert 0 < found["gradient_differences"]["cached"] < 5e-3
    assert "cached" in done.stdout and "two narrow layers" in done.stdout


def test_other_numbers_are_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "--classes", "1")
    assert done.returncode == 2 and "--classes must be in [2, 171], --rounds at least 1. Got 1 and 7." in done.stderr
