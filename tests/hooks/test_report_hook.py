import pytest

from subpt_dense.hooks import PromptReportHook
from subpt_dense.registry import HOOKS
from tests.hooks.prompt_run import Host, NamedData, NamedPrompt, make_runner


def run(tmp_path, model, **kwargs):
    runner, lines = make_runner(tmp_path, PromptReportHook(), model, **kwargs)
    runner.train()
    return lines.lines


def test_head_and_counts_before_training(tmp_path):
    lines = run(tmp_path, Host(NamedPrompt(length=1200)), iters=1)
    assert "prompt head: type=NamedPrompt, length=1200" in lines  # the hash is for machines
    assert "parameters: 1,208 trainable of 1,214, 1,200 of them in the prompt" in lines


def test_displacement_after_every_validation_and_at_the_end(tmp_path):
    model = Host(NamedPrompt(length=1))
    lines = run(tmp_path, model, train=NamedData(("a",)), test=NamedData(("a",), 2), iters=3, val_interval=1)
    moved = [line for line in lines if line.startswith("context: ")]
    # The context's loss counts three times: (1 - x)^2, lr 0.1, so the distance to 1 shrinks by 0.4 a step.
    assert moved == [f"context: {value:.4f} (L2) from its start" for value in (0.6, 0.84, 0.936, 0.936)]


def test_heads_that_learn_nothing(tmp_path):
    class Frozen(NamedPrompt):
        displacement = property()  # hasattr is False

        def __init__(self):
            super().__init__(length=1, type="Frozen")
            self.context.requires_grad_(False)

        def prompt_parameters(self):
            return {}

    lines = run(tmp_path, Host(Frozen()), iters=1)
    assert "parameters: 8 trainable of 15, 0 of them in the prompt" in lines


def test_registered():
    assert isinstance(HOOKS.build({"type": "subpt_dense.PromptReportHook"}), PromptReportHook)


@pytest.mark.parametrize("stage", ["val", "test"])
def test_without_training(tmp_path, stage):
    runner, lines = make_runner(tmp_path, PromptReportHook(), test=NamedData(("a",), 2))
    getattr(runner, stage)()
    assert not any(line.startswith("parameters") for line in lines.lines)
