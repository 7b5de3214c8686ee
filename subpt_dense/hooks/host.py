"""What every hook asks of the runner: the host model without its wrapper, and whether it is training."""

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def host_of(model: nn.Module) -> Any:
    """The model itself, seen through a DDP-like wrapper."""
    return model.module if is_model_wrapper(model) else model


def in_training(runner: Runner) -> bool:
    """Whether ``runner.train()`` has been called; a runner that only tests keeps its training loop as a config."""
    return runner._train_loop is not None and not isinstance(runner._train_loop, dict)
