"""The launch scripts, with a torchrun and an srun on PATH that write down what they were called with."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
SCRIPTS = ("dist_train.sh", "dist_test.sh", "slurm_train.sh", "slurm_test.sh")
FAKE = """#!/usr/bin/env bash
printf '%s\\0' "$@" >"$RECORD"
printf '%s\\0' "${MASTER_PORT:-}" "$PYTHONPATH" >"$RECORD.env"
exit "${EXIT:-0}"
"""
#: Settings of the caller that would change what the scripts do.
SETTINGS = ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "PORT", "GPUS", "GPUS_PER_NODE", "CPUS_PER_TASK")


class Launcher:
    """Calls a script from another folder and keeps what the fake launcher got."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.record = folder, folder / "record"
        (folder / "bin").mkdir()
        for name in ("torchrun", "srun"):
            (folder / "bin" / name).write_text(FAKE)
            (folder / "bin" / name).chmod(0o755)

    def call(self, script: str, *args: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        environment = {key: value for key, value in os.environ.items() if key not in (*SETTINGS, "SRUN_ARGS")}
        environment |= {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "RECORD": str(self.record), **settings}
        return subprocess.run(
            [str(TOOLS / script), *args], cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def got(self) -> list[str]:
        return self.record.read_text().split("\0")[:-1]

    def environment(self) -> list[str]:
        return Path(f"{self.record}.env").read_text().split("\0")[:-1]


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    return Launcher(tmp_path)


def torchrun(
    *command: str, nnodes: str = "1", rank: str = "0", addr: str = "127.0.0.1", port: str = "29500", count: str = "2"
) -> list[str]:
    return [
        f"--nnodes={nnodes}", f"--node-rank={rank}", f"--master-addr={addr}", f"--master-port={port}",
        f"--nproc-per-node={count}", *command,
    ]  # fmt: skip


def srun(
    *command: str, gpus: str = "8", per_node: str = "8", cpus: str = "5", extra: tuple[str, ...] = ()
) -> list[str]:
    return [
        "-p", "part", "--job-name=a job", f"--gres=gpu:{per_node}", f"--ntasks={gpus}",
        f"--ntasks-per-node={per_node}", f"--cpus-per-task={cpus}", "--kill-on-bad-exit=1", *extra,
        "python", "-u", *command,
    ]  # fmt: skip


TRAIN, TEST = str(TOOLS / "train.py"), str(TOOLS / "test.py")
ODD = ("--cfg-options", "model.prompt.words=a photo of a", "a=*", "--resume")  # with blanks, and nothing to expand
NODES = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "node1", "PORT": "29511"}
CASES = [
    ("dist_train.sh", ("c.py", "2"), {}, torchrun(TRAIN, "c.py", "--launcher", "pytorch")),
    ("dist_train.sh", ("c.py", "2", *ODD), {}, torchrun(TRAIN, "c.py", "--launcher", "pytorch", *ODD)),
    (
        "dist_train.sh",
        ("my configs/c.py", "8"),
        NODES,
        torchrun(
            *(TRAIN, "my configs/c.py", "--launcher", "pytorch"),
            **{"nnodes": "2", "rank": "1", "addr": "node1", "port": "29511", "count": "8"},
        ),
    ),
    ("dist_test.sh", ("c.py", "a.pth", "2", *ODD), {}, torchrun(TEST, "c.py", "a.pth", "--launcher", "pytorch", *ODD)),
    ("dist_test.sh", ("c.py", "-", "2"), {"PORT": "1"}, torchrun(TEST, "c.py", "--launcher", "pytorch", port="1")),
    (
        "slurm_train.sh",
        ("part", "a job", "c.py", "my runs/1", *ODD),
        {},
        srun(TRAIN, "c.py", "--work-dir", "my runs/1", "--launcher", "slurm", *ODD),
    ),
    (
        "slurm_train.sh",
        ("part", "a job", "c.py", "run"),
        {"GPUS": "16", "CPUS_PER_TASK": "3", "SRUN_ARGS": "--qos=high  --exclude=node[1-3]"},
        srun(
            *(TRAIN, "c.py", "--work-dir", "run", "--launcher", "slurm"),
            gpus="16",
            cpus="3",
            extra=("--qos=high", "--exclude=node[1-3]"),
        ),
    ),
    (
        "slurm_train.sh",
        ("part", "a job", "c.py", "run"),
        {"GPUS": "2"},  # fewer than a node has
        srun(TRAIN, "c.py", "--work-dir", "run", "--launcher", "slurm", gpus="2", per_node="2"),
    ),
    (
        "slurm_test.sh",
        ("part", "a job", "c.py", "a.pth", "--out", "t.json"),
        {"GPUS": "4", "GPUS_PER_NODE": "2"},
        srun(TEST, "c.py", "a.pth", "--launcher", "slurm", "--out", "t.json", gpus="4", per_node="2"),
    ),
    ("slurm_test.sh", ("part", "a job", "c.py", "-"), {}, srun(TEST, "c.py", "--launcher", "slurm")),
]


@pytest.mark.parametrize(("script", "args", "settings", "expected"), CASES)
def test_what_is_started(
    launcher: Launcher, script: str, args: tuple[str, ...], settings: dict[str, str], expected: list[str]
) -> None:
    done = launcher.call(script, *args, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert launcher.got() == expected
    port, path = launcher.environment()
    assert port == ("29500" if script.startswith("slurm") else "")
    assert Path(path.split(":")[0]).resolve() == TOOLS.parent  # the checkout's package, whatever is installed


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_launcher_s_exit_status_is_the_script_s(launcher: Launcher, script: str) -> None:
    assert launcher.call(script, "a", "b", "2", "d", EXIT="7").returncode == 7


def test_the_port_of_a_slurm_run(launcher: Launcher) -> None:
    launcher.call("slurm_train.sh", "part", "a job", "c.py", "run", PORT="29600")
    assert launcher.environment()[0] == "29600"


@pytest.mark.parametrize(("script", "needed"), [*zip(SCRIPTS, (2, 3, 4, 4), strict=True)])
def test_too_few_arguments_show_the_usage(launcher: Launcher, script: str, needed: int) -> None:
    done = launcher.call(script, *"abcd"[: needed - 1])
    assert done.returncode == 2 and done.stderr.startswith("usage: [") and script in done.stderr
    assert not launcher.record.exists()


@pytest.mark.parametrize("script", ["dist_train.sh", "dist_test.sh"])
def test_several_nodes_need_the_first_one_s_address(launcher: Launcher, script: str) -> None:
    done = launcher.call(script, "c.py", "2", "2", NNODES="2")
    assert done.returncode == 2 and "MASTER_ADDR must name the first node where NNODES is not 1" in done.stderr
    assert not launcher.record.exists()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shellcheck_has_nothing_to_say() -> None:
    done = subprocess.run(["shellcheck", *(TOOLS / script for script in SCRIPTS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
