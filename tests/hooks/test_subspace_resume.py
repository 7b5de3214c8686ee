"""Stopping and resuming a run with SubspaceHook: the same bits, or an error that names both sides."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from subpt_dense.hooks import SubspaceHook
from tests.hooks.toy_run import LENGTH, Train


@pytest.mark.parametrize("project", ["gradient", "update"])
@pytest.mark.parametrize("optimizer", ["sgd_decay", "adamw"])
def test_resume_at_any_checkpoint_repeats_the_run(train: Train, project: str, optimizer: str) -> None:
    def make() -> SubspaceHook:
        return SubspaceHook(rank=2, explore=6, interval=2, project=project)

    whole, runner = train(make(), 12, optimizer=optimizer, save_every=1)
    for iteration in (1, 4, 5, 6, 7, 11):  # exploring, the turn itself, projecting
        hook = make()
        path = f"{runner.work_dir}/iter_{iteration}.pth"
        torch.manual_seed(iteration)  # the resumed process knows nothing
        part, _ = train(hook, 12, optimizer=optimizer, load_from=path, resume=True)
        assert len(part.prompts) == 12 - iteration
        for expected, found in zip(whole.prompts[iteration:], part.prompts, strict=True):
            assert torch.equal(expected, found)
        assert torch.equal(whole.hosts[-1], part.hosts[-1])
        assert hook.phase == "project" and hook.start is not None


def test_resume_by_epoch(train: Train) -> None:
    loop = {"by_epoch": True, "max_epochs": 6}

    def make() -> SubspaceHook:
        return SubspaceHook(rank=1, explore=3, by_epoch=True, start_from="init", project="update")

    whole, runner = train(make(), loop=loop, save_every=1)
    for epoch in (2, 3, 4):
        part, _ = train(make(), loop=loop, load_from=f"{runner.work_dir}/epoch_{epoch}.pth", resume=True)
        assert torch.equal(whole.prompts[-1], part.prompts[-1])


def test_checkpoint_holds_plain_data_and_load_from_ignores_it(train: Train) -> None:
    _, runner = train(SubspaceHook(rank=2, explore=6, interval=2), 8, save_every=1)
    early = torch.load(f"{runner.work_dir}/iter_4.pth", weights_only=True)["subspace"]
    assert early["phase"] == "explore" and early["snapshots"].shape == (2, LENGTH) and early["subspace"] is None
    assert early["parameters"] == [["context", [6, 8]], ["shift", [16]]]
    late = torch.load(f"{runner.work_dir}/iter_6.pth", weights_only=True)
    assert late["subspace"]["phase"] == "project" and late["subspace"]["subspace"]["basis"].shape == (2, LENGTH)
    assert torch.equal(late["state_dict"]["prompt.context"].flatten(), late["subspace"]["start"][:48])

    hook = SubspaceHook(rank=2, explore=6, interval=2)
    hook.before_train = lambda runner: (SubspaceHook.before_train(hook, runner), phases.append(hook.phase))  # type: ignore
    phases: list[str] = []
    train(hook, 8, load_from=f"{runner.work_dir}/iter_8.pth")
    assert phases == ["explore"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"rank": 1},
            r"The checkpoint's `settings` of SubspaceHook must equal this run's.*'rank': 2.*this run.*'rank': 1",
        ),
        ({"explore": 8}, r"'explore': 6.*'explore': 8"),
        ({"project": "update"}, r"'project': 'gradient'.*'project': 'update'"),
    ],
)
def test_resume_with_another_setting_is_refused(train: Train, change: dict, message: str) -> None:
    settings: dict[str, Any] = {"rank": 2, "explore": 6, "interval": 2}
    _, runner = train(SubspaceHook(**settings), 8, save_every=4)
    with pytest.raises(ValueError, match=message):
        train(SubspaceHook(**{**settings, **change}), 12, load_from=f"{runner.work_dir}/iter_4.pth", resume=True)


def _drop_snapshot(state: dict) -> None:
    state["subspace"]["snapshots"] = state["subspace"]["snapshots"][:1]


def _rename(state: dict) -> None:
    state["subspace"]["parameters"] = [["context", [16, 512]]]


def _forget(state: dict) -> None:
    del state["subspace"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop_snapshot, r"must hold 2 snapshots after 4 iterations. Got 1."),
        (
            _rename,
            r"`parameters` of SubspaceHook.*\[\['context', \[16, 512\]\]\], this run \[\['context', \[6, 8\]\], \[",
        ),
        (_forget, r"must hold the state `subspace`. Found none.*use `load_from` without `resume`"),
    ],
)
def test_resume_from_a_spoiled_checkpoint_is_refused(train: Train, spoil: Callable, message: str) -> None:
    _, runner = train(SubspaceHook(rank=2, explore=6, interval=2), 8, save_every=4)
    path = f"{runner.work_dir}/iter_4.pth"
    state = torch.load(path, weights_only=True)
    spoil(state)
    torch.save(state, path)
    with pytest.raises(ValueError, match=message):
        train(SubspaceHook(rank=2, explore=6, interval=2), 8, load_from=path, resume=True)
