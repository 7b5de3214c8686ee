"""The shipped schedules against CoOp's closed form, epoch by epoch."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

CONFIGS = Path(__file__).parents[2] / "configs"
SCHEDULES = sorted(path.name for path in (CONFIGS / "_base_" / "schedules").glob("cls_*.py"))


@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_rate_per_epoch(name: str) -> None:
    cfg = Config.fromfile(CONFIGS / "_base_" / "schedules" / name)
    base, epochs = cfg.optim_wrapper.optimizer.lr, cfg.train_cfg.max_epochs
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    # As the runner builds them: a schedule ends with the run where it does not say otherwise.
    options = [{"end": epochs, **scheduler} for scheduler in cfg.param_scheduler]
    schedulers = [PARAM_SCHEDULERS.build(each, default_args={"optimizer": optimizer}) for each in options]
    for epoch in range(1, epochs + 1):
        expected = 1e-5 if epoch == 1 else 0.5 * base * (1 + math.cos(math.pi * (epoch - 2) / epochs))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9), epoch
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_subpt_explores_a_fifth_to_a_third_of_the_run(name: str) -> None:
    cfg = Config.fromfile(CONFIGS / "_base_" / "schedules" / name)
    assert 0.2 <= cfg.subspace.explore / cfg.train_cfg.max_epochs <= 1 / 3
    assert cfg.subspace.rewind == "run" and cfg.subspace.rank < cfg.subspace.explore
