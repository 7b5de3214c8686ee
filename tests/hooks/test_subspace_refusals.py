"""What SubspaceHook refuses or warns about, and when."""

import pytest
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn, optim
from torch.distributed.fsdp import FullyShardedDataParallel

from subpt_dense.hooks import SubspaceHook
from subpt_dense.hooks.learned_prompt import find_optimizer, find_prompt_parameters
from subpt_dense.registry import HOOKS
from tests.hooks.toy_run import OPTIMIZERS, ToyModel, ToyPrompt, Train


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "`rank` of SubspaceHook must be an int of at least 1. Got 0."),
        ({"rank": True}, "`rank` of SubspaceHook must be an int of at least 1. Got True."),
        (
            {"interval": 1.5},
            r"`interval` of SubspaceHook must be a count of at least 1 \(int\) or a fraction.*Got 1.5.",
        ),
        ({"interval": 0}, r"`interval` of SubspaceHook.*Got 0."),
        ({"explore": 0}, r"`explore` of SubspaceHook must be a count of at least 1 \(int\) or a fraction.*Got 0."),
        ({"explore": 1.0}, r"Got 1.0."),
        ({"explore": True}, r"Got True."),
        ({"explore": "half"}, r"Got 'half'."),
        ({"start_from": "best"}, "must be one of first_snapshot, init, last_snapshot. Got 'best'."),
        ({"project": "weights"}, "`project` of SubspaceHook must be one of gradient, update. Got 'weights'."),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HOOKS.build({"type": "subpt_dense.SubspaceHook", "rank": 2, "explore": 10, **arguments})


@pytest.mark.parametrize(
    ("arguments", "extra", "message"),
    [
        (
            {"rank": 50, "explore": 50},
            {},
            r"must be in \[1, 49\] for 50 snapshots. Got 50. Lower `rank`, explore longer",
        ),
        (
            {"rank": 5, "explore": 9, "interval": 2},
            {},
            r"\[1, 3\] for 4 snapshots. Got 5.*\(explore=9, interval=2, acc",
        ),
        ({"rank": 65, "explore": 90}, {}, r"\[1, 64\] for 90 snapshots of 64 numbers. Got 65."),
        ({"rank": 1, "explore": 3, "interval": 4}, {}, r"must be below the number of snapshots, 0. Got 1."),
        ({"rank": 4, "explore": 6}, {"accumulate": 2}, r"must be in \[1, 3\] for 4 snapshots. Got 4.*counts=2"),
        (
            {"rank": 1, "explore": 100},
            {},
            r"must be in \[1, 99\] for a run of 100 iterations.*Got 100, which makes 100.",
        ),
        ({"rank": 1, "explore": 0.999}, {}, r"must be in \[1, 99\] for a run of 100 iterations.*Got 0.999"),
        (
            {"rank": 1, "explore": 1, "by_epoch": True},
            {},
            r"at least 2 epochs. Got 1. An iteration-based loop counts as",
        ),
    ],
)
def test_a_run_that_cannot_work_fails_before_training(train: Train, arguments: dict, extra: dict, message: str) -> None:
    model = ToyModel()
    wrapper = {
        "type": "OptimWrapper",
        "optimizer": dict(OPTIMIZERS["sgd"]),
        "accumulative_counts": extra.get("accumulate", 1),
    }
    with pytest.raises(ValueError, match=message):
        train(SubspaceHook(**arguments), 100, model=model, wrapper=wrapper)
    assert model.calls == 0


def test_a_prompt_that_does_not_move_fails_at_the_turn(train: Train) -> None:
    model = ToyModel()
    wrapper = OptimWrapper(optim.SGD(model.parameters(), lr=0.0))
    with pytest.raises(ValueError, match="vary in 0 directions above rounding"):
        train(SubspaceHook(rank=1, explore=4), 6, model=model, wrapper=wrapper)


@pytest.mark.parametrize(
    ("project", "optimizer", "message"),
    [
        ("gradient", "adamw", "AdamW rescales them"),
        ("gradient", "sgd_decay", "weight decay 0.01 adds to them"),
        ("gradient", "sgd", None),
        ("update", "adamw", None),
    ],
)
def test_leaking_settings_are_warned_about(
    train: Train, project: str, optimizer: str, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("mmengine.logging.MMLogger.warning", lambda self, text, *_, **__: said.append(text))
    train(SubspaceHook(rank=1, explore=3, project=project), 4, optimizer=optimizer)
    found = [text for text in said if text.startswith("SubspaceHook projects gradients")]
    assert len(found) == (message is not None)
    assert message is None or (message in found[0] and "Use `project='update'`" in found[0])


def test_prompt_parameters_are_found_through_a_wrapper() -> None:
    model = ToyModel()
    assert list(find_prompt_parameters(nn.DataParallel(model), "Test")) == ["context", "shift"]


def _model(prompt: nn.Module | None) -> nn.Module:
    model = nn.Module()
    if prompt is not None:
        model.prompt = prompt
    return model


class NothingLearned(nn.Module):
    def prompt_parameters(self) -> dict[str, nn.Parameter]:
        return {}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_model(None), r"Test needs a model whose `prompt` is a prompt head.*Got Module with `prompt` NoneType."),
        (_model(nn.Linear(1, 1)), r"Got Module with `prompt` Linear."),
        (_model(NothingLearned()), r"Test found nothing to adapt: NothingLearned has no learned parameters."),
        (_model(ToyPrompt().requires_grad_(False)), r"must require gradients. Frozen: context, shift."),
    ],
)
def test_a_model_with_nothing_to_adapt_is_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_prompt_parameters(model, "Test")


def test_sharded_models_are_refused() -> None:
    with pytest.raises(
        ValueError, match="Test needs whole prompt parameters on every rank. Got an FSDP model: use DDP."
    ):
        find_prompt_parameters(FullyShardedDataParallel.__new__(FullyShardedDataParallel), "Test")


def test_other_optimizers_are_refused() -> None:
    model = ToyModel()
    parameters = model.prompt.prompt_parameters()
    wrapper = OptimWrapper(optim.SGD([model.prompt.context], lr=1.0))
    with pytest.raises(ValueError, match="must be in the optimizer. Missing: shift."):
        find_optimizer(wrapper, parameters, "Test")
    with pytest.raises(ValueError, match="needs one OptimWrapper around one optimizer. Got OptimWrapperDict."):
        find_optimizer(OptimWrapperDict(prompt=wrapper), parameters, "Test")
    with pytest.raises(ValueError, match="Got SGD."):
        find_optimizer(wrapper.optimizer, parameters, "Test")
