"""Runs of mmengine's loops, stopped and resumed: the same bits, or a word that says why not."""

from typing import Any
from unittest import mock

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import BaseLoop, Runner
from torch import Tensor

from subpt_dense.hooks import RunStateHook, SubspaceHook
from subpt_dense.registry import LOOPS
from tests.hooks.prompt_run import Lines
from tests.hooks.toy_run import Recorder, ToyData, ToyModel, Train

ITERS = 9


class Dice(Hook):
    """Draws in every iteration, as a model that samples boxes does."""

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        data_batch["inputs"] *= torch.rand(())


class Validated(ToyModel):
    """Can be validated."""

    def forward(self, inputs: Tensor, target: Tensor, mode: str = "loss") -> Any:
        return super().forward(inputs, target) if mode == "loss" else [{}] * len(inputs)


class Falling(BaseMetric):
    """A score that is best at the first validation."""

    calls = 0

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(None)

    def compute_metrics(self, results: list) -> dict[str, float]:
        self.calls += 1
        return {"score": 1.0 / self.calls}


def validation(every: int) -> dict[str, Any]:
    """Options of a run that is validated on data which draws numbers."""
    loader = {
        "dataset": ToyData(3, noisy=True),
        "batch_size": 1,
        "num_workers": 0,
        "collate_fn": {"type": "default_collate"},
    }
    return {
        "model": Validated(),
        "loop": {"by_epoch": False, "max_iters": ITERS, "val_interval": every},
        "val_dataloader": {**loader, "sampler": {"type": "DefaultSampler", "shuffle": False}},
        "val_cfg": {},
        "val_evaluator": Evaluator(Falling(prefix="toy")),
    }


def run(
    train: Train, *hooks: Hook, state: bool = True, seed: int | None = 5, **options: Any
) -> tuple[Recorder, Runner]:
    """A noisy, shuffled run with AdamW and a schedule."""
    schedule = [{"type": "CosineAnnealingLR", "T_max": ITERS, "by_epoch": False}]
    kept: list[Hook] = [RunStateHook()] if state else []
    options = {"optimizer": "adamw", "param_scheduler": schedule, "save_every": 1, "batch": 2, **options}
    return train([*kept, Dice(), *hooks], ITERS, noisy=True, randomness={"seed": seed}, **options)


def same(whole: Recorder, part: Recorder) -> bool:
    """Whether a resumed run took the steps of the whole one, to the bit; both prompt and host."""
    pairs = ((whole.prompts, part.prompts), (whole.hosts, part.hosts))
    return all(torch.equal(a, b) for one, two in pairs for a, b in zip(one[-len(two) :], two, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_at_any_iteration_repeats_the_run(train: Train, workers: int) -> None:
    whole, runner = run(train, workers=workers)
    for iteration in (1, 4, 8) if workers else range(1, ITERS):
        path = f"{runner.work_dir}/iter_{iteration}.pth"
        part, _ = run(train, workers=workers, load_from=path, resume=True)
        assert len(part.prompts) == ITERS - iteration
        assert same(whole, part)


def test_the_comparison_above_can_fail(train: Train) -> None:
    whole, runner = run(train, state=False)
    part, _ = run(train, state=False, load_from=f"{runner.work_dir}/iter_4.pth", resume=True)
    assert not same(whole, part)


@pytest.mark.parametrize("iteration", [2, 4, 5, 8])  # exploring, the turn, projecting
def test_subpt_resumes_in_either_phase(train: Train, iteration: int) -> None:
    def make() -> SubspaceHook:
        return SubspaceHook(rank=2, explore=4, interval=1, project="update")

    whole, runner = run(train, make())
    part, _ = run(train, make(), load_from=f"{runner.work_dir}/iter_{iteration}.pth", resume=True)
    assert same(whole, part)


def test_validation_changes_nothing(train: Train) -> None:
    whole, _ = run(train)
    best = {"interval": -1, "by_epoch": False, "save_best": "toy/score", "rule": "greater"}
    watched, runner = run(train, CheckpointHook(**best), **validation(2))
    assert same(whole, watched)
    for iteration in (2, 3):  # before a validation, and not
        path = f"{runner.work_dir}/iter_{iteration}.pth"
        part, _ = run(train, load_from=path, resume=True, **validation(2))
        assert same(whole, part)
    with pytest.raises(ValueError, match=r"must hold `run_state`\. Found none.*a best one, which holds weights alone"):
        run(train, load_from=f"{runner.work_dir}/best_toy_score_iter_2.pth", resume=True, **validation(2))


def test_a_stop_of_a_stopped_run(train: Train) -> None:
    whole, first = run(train)
    _, second = run(train, load_from=f"{first.work_dir}/iter_3.pth", resume=True)
    part, _ = run(train, load_from=f"{second.work_dir}/iter_6.pth", resume=True)
    assert len(part.prompts) == ITERS - 6 and same(whole, part)


def test_load_from_starts_anew(train: Train) -> None:
    _, runner = run(train)
    part, _ = run(train, load_from=f"{runner.work_dir}/iter_4.pth")
    assert len(part.prompts) == ITERS


def test_checkpoints_hold_plain_data(train: Train) -> None:
    _, runner = run(train)
    state = torch.load(f"{runner.work_dir}/iter_4.pth", weights_only=True)["run_state"]
    assert state["data_seed"] == 5 and state["start"] is None and len(state["random"]) == 1
    assert {*state["random"][0]["now"]} == {"python", "numpy", "torch", "cuda"}


@pytest.mark.parametrize(
    ("written", "resumed", "message"),
    [
        ({"state": False}, {}, r"must hold `run_state`\. Found none.*use `load_from` without `resume`"),
        (
            {},
            {"seed": 6},
            r"the seed that its checkpoint's data was shuffled with, 5\. Got 6\. Set `randomness\.seed=5`",
        ),
    ],
)
def test_what_cannot_be_repeated_is_refused(train: Train, written: dict, resumed: dict, message: str) -> None:
    _, runner = run(train, **written)
    with pytest.raises(ValueError, match=message):
        run(train, load_from=f"{runner.work_dir}/iter_4.pth", resume=True, **resumed)


def test_another_number_of_processes_is_refused(train: Train) -> None:
    _, runner = run(train)
    path = f"{runner.work_dir}/iter_4.pth"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["run_state"]["random"] *= 4
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=r"as many processes as wrote the checkpoint, 4\. Got 1"):
        run(train, load_from=path, resume=True)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What runs log while the hook prepares them."""
    lines, before = Lines(), RunStateHook.before_train

    def listen(hook: RunStateHook, runner: Runner) -> None:
        runner.logger.addHandler(lines)
        before(hook, runner)
        runner.logger.removeHandler(lines)

    monkeypatch.setattr(RunStateHook, "before_train", listen)
    return lines.lines


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_epochs_resume_but_for_living_workers(
    train: Train, workers: int, persistent: bool, warnings: list[str]
) -> None:
    options: dict[str, Any] = {
        "loop": {"by_epoch": True, "max_epochs": 4},
        "workers": workers,
        "persistent": persistent,
    }
    options |= {"param_scheduler": None}
    whole, runner = run(train, **options)
    assert warnings == []
    for epoch in (1, 2) if workers == 0 else (2,):
        part, _ = run(train, **options, load_from=f"{runner.work_dir}/epoch_{epoch}.pth", resume=True)
        assert len(part.prompts) == 2 * (4 - epoch)
        assert same(whole, part) != persistent
    assert any("random numbers of persistent workers cannot be put back" in line for line in warnings) == persistent


def test_within_an_epoch_there_is_no_state(train: Train) -> None:
    """mmengine would begin the epoch again, with the later count of iterations."""
    options: dict[str, Any] = {"loop": {"by_epoch": True, "max_epochs": 4}, "param_scheduler": None, "save_every": -1}
    _, runner = run(train, CheckpointHook(interval=3, by_epoch=False), **options)
    with pytest.raises(ValueError, match=r"Found none: it was written .* within an epoch"):
        run(train, **options, load_from=f"{runner.work_dir}/iter_3.pth", resume=True)


class OwnLoop(BaseLoop):
    """Neither of epochs nor of iterations."""

    epoch, max_epochs, max_iters = 0, 1, 1
    _iter = 0

    @property
    def iter(self) -> int:
        return self._iter

    def run(self) -> None:
        self.runner.call_hook("before_train")


def test_another_loop_is_told_that_nothing_is_put_back(train: Train, warnings: list[str]) -> None:
    _, runner = run(train)
    path = f"{runner.work_dir}/iter_4.pth"
    with mock.patch.dict(LOOPS.module_dict, {"OwnLoop": OwnLoop}):
        run(train, loop={"type": "subpt_dense.OwnLoop"}, load_from=path, resume=True)
    assert any("RunStateHook does not know OwnLoop" in line for line in warnings)
