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


def test_one_process_alone() -> None:
    done: list[str] = []
    by_first_process(lambda: done.append("once"))
    assert done == ["once"]
    with pytest.raises(KeyError, match="why"):
        by_first_process(lambda: {}["why"])


@pytest.mark.dist
def test_the_others_wait_as_long_as_it_takes_and_fail_with_it(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    members = [
        subprocess.Popen([sys.executable, "-c", MEMBER, str(rank), str(tmp_path)], env=environment) for rank in range(2)
    ]
    assert [member.wait(120) for member in members] == [0, 0]
    first, second = ((tmp_path / f"{rank}.txt").read_text().splitlines() for rank in range(2))
    assert first == ["by 0", "KeyError: 'no such weights'"]
    assert second[0] == "by 0" and second[1].startswith("RuntimeError: The first process of the run failed")
    assert second[1].endswith("KeyError: 'no such weights'")
