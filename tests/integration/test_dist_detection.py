"""Two gloo processes train the detector of one: gradients on a fixed batch, and whole runs started as users do."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from subpt_dense.apis import test as run_test
from subpt_dense.toyworld import write_checkpoint
from tests.integration import detector_step
from tests.integration.conftest import CONFIGS, SHORT, SHORT_SUBPT, MakeConfig
from tests.integration.detector_step import build, gradients, half, losses, pictures

ROOT = CONFIGS.parent
#: The count of boxes that mmdet divides a loss by, in each process by its own; a loss without one has no boxes.
DIVISORS = {"loss_rpn_cls": "anchors", "loss_rpn_bbox": "anchors", "loss_cls": "regions", "loss_bbox": "regions"}
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(0, tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def two(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[dict[str, Tensor]]]:
    """Each process's gradients for a kind of batch, after all-reduce."""
    folder = tmp_path_factory.mktemp("two")
    commands = [[sys.executable, detector_step.__file__, str(rank), str(folder), str(clip)] for rank in range(2)]
    processes = [subprocess.Popen(command, env=ENVIRONMENT) for command in commands]
    assert [process.wait(timeout=400) for process in processes] == [0, 0]
    return lambda kind: [torch.load(folder / f"{kind}{rank}.pt", weights_only=True) for rank in range(2)]


def distance(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm().clamp(min=1e-12)).item()


def counted(clip: Path, data: Any) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The losses of a batch, and how many anchors and regions they are means over."""
    model, counts = build(clip), {}
    targets = model.rpn_head.get_targets

    def count_anchors(*args: Any, **kwargs: Any) -> Any:
        found = targets(*args, **kwargs)
        counts["anchors"] = int(found[4])
        return found

    def count_regions(_: Any, args: Any) -> None:
        counts["regions"] = len(args[0])

    model.rpn_head.get_targets = count_anchors
    model.roi_head.bbox_head.register_forward_pre_hook(count_regions)
    return {name: value.detach() for name, value in losses(model, data).items()}, counts


@pytest.mark.dist
@pytest.mark.parametrize("kind", ["equal", "shared"])
def test_two_processes_have_the_gradients_of_one(clip: Path, two: Any, kind: str) -> None:
    """Of prompt, heads and trunk, where both processes sample as many boxes; BatchNorm at rest, and in training."""
    one = gradients(build(clip, kind), pictures(kind))
    assert one["prompt.context"].norm() > 1e-3 and one["roi_head.bbox_head.fc_cls.projection.weight"].norm() > 1e-3
    first, second = two(kind)
    assert {*one} == {*first} == {*second}
    assert all(torch.equal(first[name], second[name]) for name in one)
    assert max(distance(first[name], one[name]) for name in one) <= 1e-5


@pytest.mark.dist
def test_with_other_counts_they_have_the_mean_over_processes(clip: Path, two: Any) -> None:
    """What mmdet's own normalisation makes of it, see the next test; the comparison above can fail."""
    whole = pictures("unequal")
    one = gradients(build(clip), whole)
    parts = [gradients(build(clip), half(whole, rank)) for rank in range(2)]
    first, second = two("unequal")
    assert all(torch.equal(first[name], second[name]) for name in one)
    assert max(distance(first[name], (parts[0][name] + parts[1][name]) / 2) for name in one) <= 1e-5
    assert distance(first["prompt.context"], one["prompt.context"]) > 1e-3


@pytest.mark.parametrize("kind", ["equal", "unequal"])
def test_what_a_loss_is_a_mean_over(clip: Path, kind: str) -> None:
    """mmdet divides the RPN's and the RoI head's losses by the boxes sampled in the process, and reduces no count.

    A mean over processes is then a mean over all boxes only where the processes sampled equally many. The prompt's own
    loss knows no boxes: it is the same in every process.
    """
    whole = pictures(kind)
    expected, total = counted(clip, whole)
    parts = [counted(clip, half(whole, rank)) for rank in range(2)]
    assert {*expected} == {*DIVISORS, "loss_nfl"}
    assert all(parts[0][1][what] + parts[1][1][what] == total[what] for what in ("anchors", "regions"))
    for name, value in expected.items():
        (first, first_counts), (second, second_counts) = parts
        mean = (first[name] + second[name]) / 2
        if name not in DIVISORS:
            assert torch.equal(first[name], second[name])
            assert mean.item() == pytest.approx(value.item(), rel=1e-5)
            continue
        a, b = first_counts[DIVISORS[name]], second_counts[DIVISORS[name]]
        assert ((a * first[name] + b * second[name]) / (a + b)).item() == pytest.approx(value.item(), rel=1e-5)
        assert (a == b) == (kind == "equal")
        assert (mean.item() == pytest.approx(value.item(), rel=1e-5)) == (kind == "equal")


# ---- whole runs ------------------------------------------------------------------------------------------------------


def launch(script: str, *args: Any, folder: Path, options: dict[str, Any]) -> None:
    """Start two processes with a script of ``tools``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = ENVIRONMENT | {"PORT": str(port), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    settings = [f"{key}={value}" for key, value in options.items()]
    command = [str(ROOT / "tools" / script), *map(str, args), "--cfg-options", *settings]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


@pytest.mark.slow
@pytest.mark.dist
def test_runs_of_two_processes(toy_folder: Path, toy_config: MakeConfig, tmp_path: Path) -> None:
    """SubPT trains, stops, goes on to the same bits, and is tested to the table of one process."""
    config, options = CONFIGS / "ovd_toy_subpt.py", SHORT | SHORT_SUBPT | {"model.test_cfg.rcnn.score_thr": 0.0}
    launch("dist_train.sh", config, 2, "--work-dir", tmp_path / "run", folder=toy_folder, options=options)
    resume = ("--work-dir", tmp_path / "part", "--resume", tmp_path / "run" / "iter_4.pth")
    launch("dist_train.sh", config, 2, *resume, folder=toy_folder, options=options)
    whole, part = (torch.load(tmp_path / run / "iter_8.pth", weights_only=True) for run in ("run", "part"))
    assert len(whole["run_state"]["random"]) == 2
    assert all(torch.equal(value, part["state_dict"][name]) for name, value in whole["state_dict"].items())

    checkpoint, out = tmp_path / "run" / "iter_8.pth", tmp_path / "two.json"
    launch("dist_test.sh", config, checkpoint, 2, "--out", out, folder=toy_folder, options=options)
    tested = json.loads(out.read_text())
    alone = run_test(toy_config("subpt", options), checkpoint, out=tmp_path / "one.json")
    assert tested["tables"] == json.loads(json.dumps(alone["tables"])) and tested["tables"][0]["images"] == 6
    (scalars,) = (tmp_path / "run").glob("*/vis_data/scalars.json")
    validated = [line for line in map(json.loads, scalars.read_text().splitlines()) if "coco/bbox_mAP" in line][-1]
    assert alone["metrics"]["coco/bbox_mAP"] > 0
    for name in ("coco/bbox_mAP", "coco/all_ap50"):
        assert validated[name] == pytest.approx(alone["metrics"][name], abs=1e-12)
