"""Two gloo processes: one works for longer than the run's group would wait, and what it fails of reaches the other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from subpt_dense.segmentation.first_process import by_first_process

ROOT = Path(__file__).parents[2]
MEMBER = """
import sys, time
from datetime import timedelta
from pathlib import Path
import subpt_dense
from torch import distributed
from subpt_dense.segmentation.first_process import by_first_process

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
group = {"init_method": f"file://{folder}/store", "rank": rank, "world_size": 2}
distributed.init_process_group("gloo", timeout=timedelta(seconds=2), **group)

def work():
    time.sleep(4)
    (folder / "made").write_text(f"by {rank}")

by_first_process(work)
lines = [(folder / "made").read_text()]
try:
    by_first_process(lambda: {}["no such weights"])
except Exception as error:
    lines.append(f"{type(error).__name__}: {error}")
(folder / f"{rank}.txt").write_text("\\n".join(lines))
distributed.barrier()
"""


DEAD = """
import sys
from datetime import timedelta
import subpt_dense
from torch import distributed
from subpt_dense.segmentation.first_process import by_first_process

rank = int(sys.argv[1])
group = {"init_method": f"file://{sys.argv[2]}/store", "rank": rank, "world_size": 3}
distributed.init_process_group("gloo", timeout=timedelta(seconds=2), **group)
if rank < 2:
    by_first_process(lambda: None)
"""


def start(member: str, folder: Path, processes: int) -> list[subprocess.Popen[bytes]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", member]
    return [subprocess.Popen([*command, str(rank), str(folder)], env=environment) for rank in range(processes)]


def test_one_process_alone() -> None:
    done: list[str] = []
    by_first_process(lambda: done.append("once"))
    assert done == ["once"]
    with pytest.raises(KeyError, match="why"):
        by_first_process(lambda: {}["why"])


@pytest.mark.dist
def test_the_others_wait_as_long_as_it_takes_and_fail_with_it(tmp_path: Path) -> None:
    assert [member.wait(120) for member in start(MEMBER, tmp_path, 2)] == [0, 0]
    first, second = ((tmp_path / f"{rank}.txt").read_text().splitlines() for rank in range(2))
    assert first == ["by 0", "KeyError: 'no such weights'"]
    assert second[0] == "by 0" and second[1].startswith("RuntimeError: The first process of the run failed")
    assert second[1].endswith("KeyError: 'no such weights'")


@pytest.mark.dist
def test_nobody_waits_for_one_that_died_before(tmp_path: Path) -> None:
    members = start(DEAD, tmp_path, 3)
    try:
        assert [member.wait(120) != 0 for member in members] == [True, True, False]
    finally:
        for member in members:
            member.kill()
