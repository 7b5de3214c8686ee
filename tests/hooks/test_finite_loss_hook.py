"""Where a run must stop, what it must say, and what must not be on disk."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from subpt_dense.hooks import FiniteLossHook
from subpt_dense.registry import HOOKS
from tests.hooks.prompt_run import Host, make_runner

NAN, INF = math.nan, math.inf


def saved(runner):
    return sorted(path.name for path in Path(runner.work_dir).glob("*.pth"))


@pytest.mark.parametrize(
    ("bad", "names"),
    [
        ({"loss_nfl": NAN}, "loss_nfl=nan"),
        ({"loss_cls": INF}, "loss_cls=inf"),
        ({"loss_cls": -INF, "loss_nfl": NAN}, "loss_cls=-inf, loss_nfl=nan"),
    ],
    ids=["nan", "inf", "two"],
)
def test_a_bad_loss_ends_the_run_naming_itself_and_its_iteration(tmp_path, bad, names):
    runner, _ = make_runner(tmp_path, FiniteLossHook(), Host(bad={4: bad}), iters=6, save_every=1)
    message = rf"The losses of iteration 4 must be finite\. Got {names}\. Resume from"
    with pytest.raises(FloatingPointError, match=message):
        runner.train()
    assert saved(runner) == ["iter_1.pth", "iter_2.pth", "iter_3.pth"]


def test_a_clean_run_runs_through(tmp_path):
    runner, _ = make_runner(tmp_path, FiniteLossHook(), iters=3, save_every=3)
    runner.train()
    assert saved(runner) == ["iter_3.pth"]


def test_interval(tmp_path):
    """The parameters stay bad, so the next check finds it; what is saved in between is the price."""
    model = Host(bad={4: {"loss_cls": NAN}})
    runner, _ = make_runner(tmp_path, FiniteLossHook(interval=3), model, iters=9, save_every=1)
    with pytest.raises(FloatingPointError, match="iteration 6 must"):
        runner.train()
    assert saved(runner)[-1] == "iter_5.pth"


def test_iterations_count_on_after_a_resume(tmp_path):
    first, _ = make_runner(tmp_path, FiniteLossHook(), iters=4, save_every=4)
    first.train()
    load = {"load_from": f"{first.work_dir}/iter_4.pth", "resume": True}
    second, _ = make_runner(tmp_path, FiniteLossHook(), Host(bad={2: {"loss_cls": NAN}}), iters=8, **load)
    with pytest.raises(FloatingPointError, match="iteration 6 must"):
        second.train()


def check(**outputs):
    FiniteLossHook().after_train_iter(SimpleNamespace(iter=0), 0, None, outputs)


@pytest.mark.parametrize(
    "outputs",
    [{}, {"loss": 1.0, "acc": NAN}, {"loss": torch.tensor(2)},
     {"loss": torch.tensor(1e30, dtype=torch.bfloat16)}],
    ids=["none", "no loss", "integer", "bfloat16"],
)  # fmt: skip
def test_what_passes(outputs):
    check(**outputs)


@pytest.mark.parametrize(
    ("outputs", "named"),
    [
        ({"loss": NAN}, "loss=nan"),
        ({"loss": NAN, "loss_a": torch.tensor(NAN)}, r"Got loss_a=nan\."),
        ({"aux_loss": torch.tensor([1.0, INF])}, "aux_loss=inf"),
    ],
    ids=["the sum alone", "the part, not the sum", "a vector"],
)
def test_what_is_named(outputs, named):
    with pytest.raises(FloatingPointError, match=named):
        check(**outputs)


@pytest.mark.parametrize("interval", [0, -1])
def test_bad_interval(interval):
    with pytest.raises(ValueError, match=f"`interval` of FiniteLossHook must be at least 1. Got {interval}"):
        HOOKS.build({"type": "subpt_dense.FiniteLossHook", "interval": interval})
