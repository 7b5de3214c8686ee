"""Two passes in one run: the second is a run of its own, to the bit, and a stop at any epoch changes nothing."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from subpt_dense.hooks import RunStateHook, SubspaceHook
from subpt_dense.hooks.random_state import get_random_state, set_random_state
from tests.hooks.toy_run import LENGTH, FixedHook, ToyModel, Train, outside, random_rows

PASS, EXPLORED, STEPS = 8, 3, 4  # epochs, epochs, iterations an epoch
LOOP = {"type": "subpt_dense.RewindingTrainLoop", "max_epochs": PASS}
SCHEDULE = [
    {"type": "ConstantLR", "factor": 5e-3, "begin": 0, "end": 2},
    {"type": "CosineAnnealingLR", "T_max": PASS, "begin": 1},
]


class Rates(Hook):
    """The learning rate of every epoch."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def before_train_epoch(self, runner: Runner) -> None:
        self.rates.append(runner.optim_wrapper.get_lr()["lr"][0])


class Inputs(Hook):
    """Keeps what every iteration was given."""

    def __init__(self, seen: list[torch.Tensor]) -> None:
        self.seen = seen

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.seen.append(data_batch["inputs"].clone())


@pytest.fixture
def run(train: Train) -> Callable[..., Any]:
    """A noisy, shuffled run with CoOp's schedule; its random state is saved and restored."""

    def start(*hooks: Hook, seed: int = 3, **options: Any) -> Any:
        options = {"loop": LOOP, "noisy": True, "param_scheduler": SCHEDULE, "optimizer": "sgd_decay"} | options
        return train([RunStateHook(), *hooks], randomness={"seed": seed}, **options)

    return start


def checkpoint(runner: Runner, epoch: int, explored: int = EXPLORED) -> str:
    phase = "explore" if epoch <= explored else "train"
    return f"{runner.work_dir}/{phase}_epoch_{epoch}.pth"


def explorer(kind: type[SubspaceHook] = SubspaceHook, **options: Any) -> Any:
    settings: dict[str, Any] = {"rank": 2, "explore": EXPLORED, "by_epoch": True, "rewind": "run"}
    return kind(**(settings | options))


@pytest.mark.parametrize("project", ["gradient", "update"])
@pytest.mark.parametrize("optimizer", ["sgd_decay", "adamw"])
def test_second_pass_with_the_whole_space_is_the_plain_run_to_the_bit(run: Any, project: str, optimizer: str) -> None:
    plain, _ = run(optimizer=optimizer, model=ToyModel())
    hook = explorer(FixedHook, start_from="init", project=project)
    hook.basis = torch.eye(LENGTH)
    both, runner = run(hook, optimizer=optimizer, model=ToyModel())
    explored = EXPLORED * STEPS
    assert runner.iter == explored + PASS * STEPS == len(both.prompts)
    for expected, found in zip(plain.prompts, both.prompts[explored:], strict=True):
        assert torch.equal(expected, found)
    assert all(torch.equal(a, b) for a, b in zip(plain.hosts, both.hosts[explored:], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(plain.prompts, both.prompts[:explored], strict=False))  # exploring


def test_workers_draw_the_first_pass_numbers_again_and_others_in_every_epoch(run: Any) -> None:
    plain, _ = run(model=ToyModel(), workers=2)
    hook = explorer(FixedHook, start_from="init")
    hook.basis = torch.eye(LENGTH)
    both, runner = run(hook, model=ToyModel(), workers=2, save_every=1)
    explored = EXPLORED * STEPS
    assert all(torch.equal(a, b) for a, b in zip(plain.prompts, both.prompts[explored:], strict=True))
    for epoch in (2, 7):
        hook = explorer(FixedHook, start_from="init")
        hook.basis = torch.eye(LENGTH)
        part, _ = run(hook, workers=2, load_from=checkpoint(runner, epoch), resume=True)
        assert torch.equal(part.prompts[-1], both.prompts[-1])
    frozen = {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.0}}
    seen: list[torch.Tensor] = []
    run(Inputs(seen), wrapper=frozen, workers=1, param_scheduler=None)
    assert len({tuple(inputs.flatten().tolist()) for inputs in seen}) == PASS * STEPS  # no draw comes twice


def test_living_workers_are_refused(train: Train) -> None:
    with pytest.raises(ValueError, match="`train_dataloader.persistent_workers` must be False for RewindingTrainLoop"):
        train([RunStateHook()], loop=LOOP, workers=1, persistent=True)


def test_any_orthonormal_basis_of_full_rank_gives_the_plain_run(run: Any) -> None:
    plain, _ = run(model=ToyModel())
    hook = explorer(FixedHook, start_from="init")
    hook.basis = random_rows(LENGTH)
    both, _ = run(hook, model=ToyModel())
    assert (plain.prompts[-1] - both.prompts[-1]).norm() <= 1e-6 * plain.prompts[-1].norm()


@pytest.mark.parametrize(
    ("project", "optimizer"), [("gradient", "sgd"), ("update", "sgd"), ("update", "sgd_decay"), ("update", "adamw")]
)
def test_displacement_stays_in_the_span(run: Any, project: str, optimizer: str) -> None:
    hook = explorer(project=project)
    recorder, _ = run(hook, optimizer=optimizer)
    moved = (recorder.prompts[-1] - recorder.prompts[EXPLORED * STEPS]).norm()
    assert moved > 0.1 * recorder.prompts[-1].norm()
    assert outside(recorder, hook, EXPLORED * STEPS) <= 1e-6


@pytest.mark.parametrize("optimizer", ["sgd_decay", "adamw"])
def test_resume_at_any_epoch_of_either_pass_repeats_the_run(run: Any, optimizer: str) -> None:
    whole, runner = run(explorer(), optimizer=optimizer, save_every=1)
    for epoch in range(1, EXPLORED + PASS):
        part, _ = run(explorer(), seed=3, optimizer=optimizer, load_from=checkpoint(runner, epoch), resume=True)
        assert len(part.prompts) == (EXPLORED + PASS - epoch) * STEPS
        assert all(torch.equal(a, b) for a, b in zip(whole.prompts[epoch * STEPS :], part.prompts, strict=True))


def test_checkpoints_name_their_pass_and_old_ones_of_either_go(run: Any) -> None:
    _, runner = run(explorer(explore=6), CheckpointHook(interval=1, max_keep_ckpts=3), loop=LOOP | {"max_epochs": 7})
    folder = Path(runner.work_dir)
    assert sorted(path.name for path in folder.glob("*.pth")) == [f"train_epoch_{epoch}.pth" for epoch in (11, 12, 13)]
    assert (folder / "last_checkpoint").read_text().endswith("train_epoch_13.pth")
    _, runner = run(explorer(explore=6), CheckpointHook(interval=6), loop=LOOP | {"max_epochs": 7})
    names = sorted(path.name for path in Path(runner.work_dir).glob("*.pth"))
    assert names == ["explore_epoch_6.pth", "train_epoch_12.pth", "train_epoch_13.pth"]
    _, runner = run(CheckpointHook(interval=4))
    assert sorted(path.name for path in Path(runner.work_dir).glob("*.pth")) == ["epoch_4.pth", "epoch_8.pth"]


def test_resume_of_a_plain_run(run: Any) -> None:
    whole, runner = run(save_every=3)
    part, _ = run(load_from=f"{runner.work_dir}/epoch_3.pth", resume=True)
    assert torch.equal(whole.prompts[-1], part.prompts[-1])


def test_accumulated_gradients_end_with_the_pass(run: Any) -> None:
    """3 iterations a step, 12 and 32 iterations a pass: a remainder is the pass's own, before and after a resume."""
    wrapper = {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.02}, "accumulative_counts": 3}
    plain, _ = run(wrapper=dict(wrapper), model=ToyModel())
    hook = explorer(FixedHook, start_from="init", explore=4)
    hook.basis = torch.eye(LENGTH)
    both, runner = run(hook, wrapper=dict(wrapper), model=ToyModel(), save_every=1)
    assert torch.equal(plain.prompts[-1], both.prompts[-1])
    hook = explorer(FixedHook, start_from="init", explore=4)
    part, _ = run(hook, wrapper=dict(wrapper), load_from=checkpoint(runner, 7, explored=4), resume=True)
    # An epoch of 4 iterations ends within a step of 3: what was accumulated by then is lost with the stop.
    assert (plain.prompts[-1] - part.prompts[-1]).norm() < 0.05 * plain.prompts[-1].norm()


def test_learning_rate_follows_the_closed_form_in_both_passes(run: Any) -> None:
    rates = Rates()
    run(explorer(), rates)
    base = 0.02

    def closed_form(epoch: int) -> float:
        return 5e-3 * base if epoch == 1 else 0.5 * base * (1 + math.cos(math.pi * (epoch - 2) / PASS))

    expected = [closed_form(e) for e in [*range(1, EXPLORED + 1), *range(1, PASS + 1)]]
    assert rates.rates == pytest.approx(expected, rel=1e-9)


def test_explored_epochs_come_before_the_fraction_of_the_pass(run: Any) -> None:
    hook = explorer(explore=0.5)
    _, runner = run(hook)
    assert runner.train_loop.explored == 4 and runner.max_epochs == 4 + PASS and runner.max_iters == 12 * STEPS
    assert runner.train_loop.phase == "train" and runner.train_loop.pass_epoch == PASS


@pytest.mark.parametrize(
    ("hook", "options", "message"),
    [
        ({"explore": PASS}, {}, r"`explore` of SubspaceHook must be in \[1, 7\] for a run of 8 epochs"),
        (
            {},
            {"loop": {"by_epoch": True, "max_epochs": 8}},
            r"needs `train_cfg.type=.*RewindingTrainLoop'`. Got EpochB",
        ),
        ({"by_epoch": False, "explore": 6}, {}, r"a multiple of 4 iterations. Got 6"),
        ({"rewind": "all"}, {}, r"`rewind` of SubspaceHook must be one of prompt, run. Got 'all'"),
    ],
)
def test_refusals(run: Any, hook: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(explorer(**hook), **options)


def test_checkpoints_without_random_state_are_refused(run: Any, train: Train) -> None:
    _, runner = train(None, loop=LOOP, noisy=True, save_every=4)
    with pytest.raises(ValueError, match=r"must hold `run_state`. Found none"):
        run(param_scheduler=None, load_from=f"{runner.work_dir}/epoch_4.pth", resume=True)


def test_snapshots_by_iteration_within_explored_epochs(run: Any) -> None:
    hook = explorer(FixedHook, by_epoch=False, explore=EXPLORED * STEPS, interval=2)
    run(hook)
    assert hook.seen is not None and len(hook.seen) == 6


def test_random_state_round_trip() -> None:
    import random

    import numpy as np

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.randn()), float(torch.randn(()))

    draw()
    np.random.randn()  # leaves a cached second normal number
    state = get_random_state()
    first = draw()
    assert draw() != first
    set_random_state(state)
    assert draw() == first
    with pytest.raises(ValueError, match=r"number of CUDA devices, \d+. Got 9"):
        set_random_state(state | {"cuda": [state["torch"]] * 9})
