"""The record of a run: exact parameters and raw gradients by epoch, over both passes, a stop and a resume."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from subpt_dense.evaluation import Trajectory
from subpt_dense.hooks import RunStateHook, SubspaceHook, TrajectoryHook
from subpt_dense.subspace import flatten
from tests.hooks.toy_run import LENGTH, FixedHook, ToyModel, Train, random_rows

EPOCHS, EXPLORED, STEPS = 5, 3, 4
LOOP = {"type": "subpt_dense.RewindingTrainLoop", "max_epochs": EPOCHS}
PLAIN = {"by_epoch": True, "max_epochs": EPOCHS}


class RawGradients(Hook):
    """Backward's gradients, read before the optimizer and its hooks: `OptimWrapper.backward` leaves them there."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def before_train(self, runner: Runner) -> None:
        step = runner.optim_wrapper.step

        def spy(**kwargs: Any) -> None:
            self.seen.append(flatten(p.grad.clone() for p in runner.model.prompt.prompt_parameters().values()))
            step(**kwargs)

        runner.optim_wrapper.step = spy


def subpt(**options: Any) -> FixedHook:
    hook = FixedHook(**({"rank": 2, "explore": EXPLORED, "by_epoch": True, "rewind": "run"} | options))
    hook.basis = random_rows(2)
    return hook


def test_records_parameters_and_mean_gradient_of_every_epoch(train: Train) -> None:
    raw = RawGradients()
    recorder, runner = train([TrajectoryHook(), raw], loop=PLAIN)
    found = Trajectory.read(runner.work_dir)
    assert found.shapes == (("context", (6, 8)), ("shift", (16,))) and found.phases == ("train",) * EPOCHS
    assert found.epochs.tolist() == list(range(1, EPOCHS + 1)) and found.steps.tolist() == [STEPS] * EPOCHS
    assert torch.equal(found.parameters, torch.stack(recorder.prompts[STEPS - 1 :: STEPS]))
    expected = torch.stack(raw.seen).view(EPOCHS, STEPS, LENGTH).mean(dim=1)
    torch.testing.assert_close(found.gradients, expected)
    assert torch.equal(found.initial, flatten(ToyModel().prompt.prompt_parameters().values()))
    assert found.inside.isnan().all()


def test_it_changes_nothing_and_projection_changes_only_what_it_does_not_see(train: Train) -> None:
    alone, _ = train([RunStateHook(), subpt()], loop=LOOP)
    raw = RawGradients()
    watched, runner = train([RunStateHook(), subpt(), TrajectoryHook(), raw], loop=LOOP)
    assert all(torch.equal(a, b) for a, b in zip(alone.prompts, watched.prompts, strict=True))
    found = Trajectory.read(runner.work_dir)
    assert found.phases == ("explore",) * EXPLORED + ("train",) * EPOCHS
    gradients = torch.stack(raw.seen).view(-1, STEPS, LENGTH)
    torch.testing.assert_close(found.gradients, gradients.mean(dim=1))  # raw: not in the span of two rows
    kept = gradients.double() @ random_rows(2).T
    share = kept.square().sum((1, 2)) / gradients.double().square().sum((1, 2))
    assert found.inside[:EXPLORED].isnan().all()
    torch.testing.assert_close(found.inside[EXPLORED:], share[EXPLORED:])
    assert share.min() > 0 and share.max() < 0.9
    assert len(found.of_phase("train")) == EPOCHS and found.of_phase("train").epochs[0] == EXPLORED + 1


@pytest.mark.parametrize("rewind", ["run", "prompt"])
def test_the_exploring_end_is_recorded_before_the_prompt_goes_back(train: Train, rewind: str) -> None:
    hook = subpt(rewind=rewind)
    _, runner = train([RunStateHook(), hook, TrajectoryHook()], loop=LOOP)
    found = Trajectory.read(runner.work_dir)
    assert hook.seen is not None and torch.equal(hook.seen, found.parameters[:EXPLORED])


def test_interval(train: Train) -> None:
    _, every = train([TrajectoryHook()], loop=PLAIN)
    _, second = train([TrajectoryHook(interval=2)], loop=PLAIN)
    fine, coarse = Trajectory.read(every.work_dir), Trajectory.read(second.work_dir)
    assert coarse.epochs.tolist() == [2, 4] and coarse.steps.tolist() == [2 * STEPS] * 2
    assert torch.equal(coarse.parameters, fine.parameters[[1, 3]])
    torch.testing.assert_close(coarse.gradients, (fine.gradients[[0, 2]] + fine.gradients[[1, 3]]) / 2)


def test_a_resumed_run_goes_on_with_the_file_and_forgets_what_the_checkpoint_has_not_seen(train: Train) -> None:
    def hooks() -> list[Hook]:
        return [RunStateHook(), SubspaceHook(rank=1, explore=2, by_epoch=True, rewind="run"), TrajectoryHook()]

    _, runner = train(hooks(), loop=LOOP, save_every=1)
    whole = Trajectory.read(runner.work_dir)
    folder = Path(runner.work_dir)
    for epoch in (1, 2, 4):
        checkpoint = torch.load(saved(folder, epoch), weights_only=True)
        assert "trajectory" not in checkpoint
        resumed = resume_in(folder, train, hooks(), epoch)
        assert resumed.phases == whole.phases and torch.equal(resumed.epochs, whole.epochs)
        assert torch.equal(resumed.parameters, whole.parameters) and torch.equal(resumed.gradients, whole.gradients)
        torch.testing.assert_close(resumed.inside, whole.inside, equal_nan=True, rtol=0, atol=0)


def saved(folder: Path, epoch: int) -> Path:
    """The checkpoint of an epoch, whichever pass its name tells."""
    (path,) = folder.glob(f"*epoch_{epoch}.pth")
    return path


def resume_in(folder: Path, train: Train, hooks: list[Hook], epoch: int) -> Trajectory:
    """Resume in the folder that holds the trajectory, as `--resume` does."""

    class Here(Hook):
        priority = "VERY_HIGH"

        def before_train(self, runner: Runner) -> None:
            runner._work_dir = str(folder)

    train([Here(), *hooks], loop=LOOP, save_every=-1, load_from=str(saved(folder, epoch)), resume=True)
    return Trajectory.read(folder)


def test_without_the_file_a_resumed_run_begins_a_new_record(train: Train) -> None:
    _, runner = train([TrajectoryHook()], loop=PLAIN, save_every=1)
    _, resumed = train([TrajectoryHook()], loop=PLAIN, load_from=f"{runner.work_dir}/epoch_3.pth", resume=True)
    assert Trajectory.read(resumed.work_dir).epochs.tolist() == [4, 5]


def test_every_checkpoint_writes_the_file(train: Train) -> None:
    class Killed(Hook):
        priority = "LOWEST"

        def after_train_epoch(self, runner: Runner) -> None:
            if runner.epoch == 2:
                self.found = Trajectory.read(runner.work_dir)

    killed = Killed()
    train([TrajectoryHook(), killed], loop=PLAIN, save_every=1)
    assert killed.found.epochs.tolist() == [1, 2, 3]


def test_refused(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`interval` of TrajectoryHook must be an int of at least 1\. Got 0\."):
        TrajectoryHook(interval=0)
    with pytest.raises(ValueError, match=r"needs an epoch-based train loop\. Got IterBasedTrainLoop\."):
        train([TrajectoryHook()])
    model = ToyModel()
    model.prompt.requires_grad_(False)
    with pytest.raises(ValueError, match=r"Prompt parameters of TrajectoryHook must require gradients"):
        train([TrajectoryHook()], loop=PLAIN, model=model)


def test_a_file_of_other_parameters_is_refused(train: Train) -> None:
    _, runner = train([TrajectoryHook()], loop=PLAIN, save_every=1)
    folder = Path(runner.work_dir)
    found = Trajectory.read(folder)
    other = Trajectory.of((("context", (LENGTH,)),), found.initial, found.records())
    other.write(folder / "trajectory.safetensors")
    with pytest.raises(
        ValueError, match=r"must be of this run's prompt parameters, .*shift.*Got \(\('context', \(64,\)"
    ):
        resume_in(folder, train, [RunStateHook(), TrajectoryHook()], 3)


def test_gradients_that_are_not_there_count_as_zero(train: Train) -> None:
    class NoShift(Hook):
        def before_train(self, runner: Runner) -> None:
            step = runner.optim_wrapper.step

            def without(**kwargs: Any) -> None:
                runner.model.prompt.shift.grad = None
                step(**kwargs)

            runner.optim_wrapper.step = without

    _, runner = train([TrajectoryHook(), NoShift()], loop=PLAIN)
    gradients = Trajectory.read(runner.work_dir).gradients
    assert (gradients[:, 48:] == 0).all() and (gradients[:, :48] != 0).any() and not math.isnan(gradients.sum())
