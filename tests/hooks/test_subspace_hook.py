"""The hook in real Runners on a toy host: what must be true of SubPT, to the bit or within the span."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner

import subpt_dense
from subpt_dense.hooks import SubspaceHook
from subpt_dense.subspace import Subspace, fit_basis, flatten, largest_principal_angle
from tests.hooks import toy_run
from tests.hooks.toy_run import (
    LENGTH,
    OPTIMIZERS,
    FixedHook,
    ScaledWrapper,
    ToyModel,
    Train,
    outside,
    random_rows,
)

# ---- property 1: the hook adds nothing of its own --------------------------------------------------------------------


@pytest.mark.parametrize("project", ["gradient", "update"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("basis", [None, "random"], ids=["identity", "orthonormal"])
def test_full_rank_basis_repeats_the_run_without_the_hook(
    train: Train, project: str, optimizer: str, basis: str | None
) -> None:
    plain, _ = train(None, 24, optimizer=optimizer, model=ToyModel(train_host=False))
    hook = FixedHook(rank=3, explore=8, start_from="init", project=project)
    hook.basis = torch.eye(LENGTH) if basis is None else random_rows(LENGTH)
    hooked, _ = train(hook, 32, optimizer=optimizer, model=ToyModel(train_host=False))
    for expected, found in zip(plain.prompts, hooked.prompts[8:], strict=True):
        if basis is None:
            assert torch.equal(expected, found)
        else:
            assert (expected - found).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_exploring_is_the_host_to_the_bit(train: Train, optimizer: str) -> None:
    plain, _ = train(None, 13, optimizer=optimizer)
    hook = SubspaceHook(rank=3, explore=12, project="update")
    hooked, _ = train(hook, 13, optimizer=optimizer)
    assert all(torch.equal(a, b) for a, b in zip(plain.prompts[:11], hooked.prompts[:11], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(plain.hosts[:12], hooked.hosts[:12], strict=True))


# ---- property 2: the basis -------------------------------------------------------------------------------------------


def test_basis_is_the_pca_of_the_recorded_trajectory(train: Train) -> None:
    hook = SubspaceHook(rank=4, explore=10, project="update")
    recorder, _ = train(hook, 12)
    plain, _ = train(None, 10)
    exact = torch.stack(plain.prompts).double()
    _, values, rows = torch.linalg.svd(exact - exact.mean(0))
    expected = Subspace(rows[:4], values[:4] ** 2 / (values**2).sum())
    assert hook.phase == "project" and hook.subspace is not None
    assert largest_principal_angle(hook.subspace, expected) < 1e-9
    assert torch.allclose(hook.subspace.explained, expected.explained)


# ---- property 3: what stays in the span ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("project", "optimizer", "stays"),
    [
        ("gradient", "sgd", True),
        ("gradient", "sgd_decay", False),  # weight decay leaks
        ("gradient", "adamw", False),
        ("update", "sgd", True),
        ("update", "sgd_decay", True),
        ("update", "adamw", True),
    ],
)
def test_displacement_stays_in_the_span(train: Train, project: str, optimizer: str, stays: bool) -> None:
    hook = SubspaceHook(rank=4, explore=20, interval=2, project=project)
    recorder, _ = train(hook, 320, optimizer=optimizer)
    assert hook.start is not None
    assert (recorder.prompts[-1] - hook.start).norm() > 0.1 * hook.start.norm()  # it went somewhere
    share = outside(recorder, hook, after=20)
    assert share <= 1e-6 if stays else share > 1e-4


def test_update_mode_does_not_add_up_rounding(train: Train) -> None:
    hook = SubspaceHook(rank=4, explore=20, project="update")
    recorder, _ = train(hook, 320)
    assert hook.start is not None and hook.subspace is not None
    ulp = torch.finfo(torch.float32).eps * recorder.prompts[-1].norm()
    for prompt in recorder.prompts[21:]:
        assert hook.subspace.remove(prompt.double() - hook.start.double()).norm() < 0.5 * ulp


# ---- the turn --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start_from", "index"), [("first_snapshot", 1), ("last_snapshot", 7), ("init", None)])
def test_the_turn_rewinds_the_prompt_and_only_the_prompt(train: Train, start_from: str, index: int | None) -> None:
    plain, _ = train(None, 9)
    hook = SubspaceHook(rank=2, explore=9, interval=2, start_from=start_from)
    recorder, runner = train(hook, 11)
    expected = flatten(ToyModel().prompt.parameters()) if index is None else plain.prompts[index]
    assert torch.equal(recorder.prompts[8], expected)
    assert hook.start is not None and torch.equal(hook.start, expected)
    assert torch.equal(recorder.hosts[8], plain.hosts[8])
    assert recorder.states == [2] * 8 + [0] + [2] * 2  # the optimizer forgot both tensors, once
    assert len(runner.optim_wrapper.optimizer.state) == 4


@pytest.mark.parametrize(
    ("explore", "interval", "iters", "expected"),
    [
        (6, 1, 12, [1, 2, 3, 4, 5, 6]),
        (7, 3, 12, [3, 6]),
        (0.5, 2, 12, [2, 4, 6]),
        (0.3, 1, 10, [1, 2, 3]),
        (0.5, 0.01, 6, [1, 2, 3]),
        (0.7, 0.25, 12, [3, 6]),
    ],
)
def test_snapshots_by_iteration(train: Train, explore: float, interval: float, iters: int, expected: list[int]) -> None:
    hook = FixedHook(rank=1, explore=explore, interval=interval)
    train(hook, iters)
    plain, _ = train(None, iters)
    assert hook.seen is not None
    assert torch.equal(hook.seen, torch.stack([plain.prompts[iteration - 1] for iteration in expected]))


def test_snapshots_by_epoch(train: Train) -> None:
    loop = {"by_epoch": True, "max_epochs": 6}
    hook = FixedHook(rank=1, explore=0.5, by_epoch=True)
    recorder, _ = train(hook, loop=loop)
    plain, _ = train(None, loop=loop)
    assert hook.seen is not None and hook.start is not None
    assert torch.equal(hook.seen, torch.stack(plain.prompts[3:12:4]))
    assert outside(recorder, hook, after=12) <= 1e-6


# ---- accumulation, AMP -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("project", ["gradient", "update"])
def test_accumulation_equals_the_larger_batch(train: Train, project: str) -> None:
    once, _ = train(SubspaceHook(rank=3, explore=8, project=project), 24, batch=2)
    wrapper = {"type": "OptimWrapper", "optimizer": dict(OPTIMIZERS["sgd"]), "accumulative_counts": 2}
    hook = SubspaceHook(rank=3, explore=16, interval=2, project=project)
    twice, _ = train(hook, 48, wrapper=wrapper)
    assert outside(twice, hook, after=20) <= 1e-6
    for expected, found in zip(once.prompts, twice.prompts[1::2], strict=True):
        assert (expected - found).norm() <= 1e-5 * expected.norm()


def test_half_an_accumulated_gradient_is_dropped_at_the_turn(train: Train) -> None:
    gone: list[bool] = []

    class WatchingHook(SubspaceHook):
        def _turn(self, runner: Runner) -> None:
            parameters = list(runner.model.prompt.parameters())
            gone.extend(parameter.grad is None for parameter in parameters)
            super()._turn(runner)
            gone.extend(parameter.grad is None for parameter in parameters)

    wrapper = {"type": "OptimWrapper", "optimizer": dict(OPTIMIZERS["sgd"]), "accumulative_counts": 2}
    hook = WatchingHook(rank=1, explore=9, interval=2)
    recorder, _ = train(hook, 13, wrapper=wrapper)
    assert gone == [False, False, True, True]
    assert hook.start is not None and torch.equal(recorder.prompts[8], hook.start)
    assert outside(recorder, hook, after=9) <= 1e-6


@pytest.mark.parametrize("project", ["gradient", "update"])
@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.01, fused=True),  # unscales inside its own step
    ],
    ids=["sgd", "adamw", "adamw_fused"],
)
def test_a_step_skipped_for_inf_moves_nothing(train: Train, project: str, make: Callable) -> None:
    model = ToyModel(poisoned=(5, 12, 15))
    hook = SubspaceHook(rank=3, explore=10, project=project)
    recorder, _ = train(hook, 20, model=model, wrapper=ScaledWrapper(optimizer=make(model.parameters())))
    for skipped in (5, 12, 15):
        assert torch.equal(recorder.prompts[skipped - 1], recorder.prompts[skipped - 2])
    assert not torch.equal(recorder.prompts[15], recorder.prompts[14])
    assert torch.isfinite(recorder.prompts[-1]).all()
    if project == "update" or isinstance(make(model.parameters()), torch.optim.SGD):
        assert outside(recorder, hook, after=10) <= 1e-6


@pytest.mark.parametrize("project", ["gradient", "update"])
def test_scaled_steps_equal_plain_ones(train: Train, project: str) -> None:
    plain, _ = train(SubspaceHook(rank=3, explore=10, project=project), 30)
    model = ToyModel()
    wrapper = ScaledWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9))
    scaled, _ = train(SubspaceHook(rank=3, explore=10, project=project), 30, model=model, wrapper=wrapper)
    assert torch.allclose(plain.prompts[-1], scaled.prompts[-1], rtol=0, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("project", ["gradient", "update"])
def test_runner_amp_on_a_gpu(train: Train, project: str) -> None:
    model = ToyModel(poisoned=(12,)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    hook = SubspaceHook(rank=3, explore=10, project=project)
    wrapper = AmpOptimWrapper(optimizer=optimizer, loss_scale={"init_scale": 256.0})
    recorder, _ = train(hook, 60, model=model, wrapper=wrapper)
    assert torch.equal(recorder.prompts[11], recorder.prompts[10])
    hook.subspace = hook.subspace.to("cpu") if hook.subspace else None
    assert outside(recorder, hook, after=14) <= 1e-6


def test_the_optimizer_is_let_go_after_training(train: Train) -> None:
    hook = SubspaceHook(rank=1, explore=3)
    _, runner = train(hook, 5)
    optimizer = runner.optim_wrapper.optimizer
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_a_missing_gradient_counts_as_zero() -> None:
    model = ToyModel()
    hook = SubspaceHook(rank=2, explore=3)
    hook._parameters = model.prompt.prompt_parameters()
    hook._enter_projection(fit_basis(torch.randn(5, LENGTH), 2), torch.zeros(LENGTH))
    hook._before_step()
    assert model.prompt.context.grad is None  # no gradient at all: nothing to project
    model.prompt.context.grad = torch.ones(6, 8)
    hook._before_step()
    expected = hook.subspace.keep(torch.cat([torch.ones(48), torch.zeros(16)]))
    assert torch.allclose(flatten([model.prompt.context.grad, model.prompt.shift.grad]), expected)


@pytest.mark.slow
@pytest.mark.dist
def test_two_processes_equal_one_with_both_batches(train: Train, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(subpt_dense.__file__).parents[1]), "CUDA_VISIBLE_DEVICES": ""}
    commands = [[sys.executable, toy_run.__file__, str(rank), str(tmp_path), "24"] for rank in range(2)]
    processes = [subprocess.Popen(command, env=environment) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for project in ("gradient", "update"):
        one, _ = train(SubspaceHook(rank=3, explore=8, project=project), 24, batch=2)
        first, second = (torch.load(tmp_path / f"{project}{rank}.pt", weights_only=True) for rank in range(2))
        assert torch.equal(first, second)
        assert torch.allclose(torch.stack(one.prompts), first, rtol=0, atol=2e-6)
