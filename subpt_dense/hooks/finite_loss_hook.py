"""Stops a run whose loss is no longer a number, naming the iteration and the loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from subpt_dense.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Raises when a loss is NaN or infinite, before any checkpoint of that iteration is written.

    Args:
        interval: Iterations between checks. One check waits for the device once.

    Raises:
        ValueError: If ``interval`` is not positive.
        FloatingPointError: From training, naming the iteration and every offending loss.
    """

    priority = "VERY_HIGH"

    def __init__(self, interval: int = 1) -> None:
        if interval < 1:
            raise ValueError(f"`interval` of FiniteLossHook must be at least 1. Got {interval}.")
        self.interval = interval

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Checks every logged loss of this iteration."""
        if not self.every_n_train_iters(runner, self.interval) or not outputs:
            return
        losses = {name: value for name, value in outputs.items() if "loss" in name}
        bad = [name for name, value in losses.items() if not _finite(value)]
        if bad:
            # The sum is bad whenever a part is; the parts are what the user can act on.
            named = [name for name in bad if name != "loss"] or bad
            raise FloatingPointError(
                f"The losses of iteration {runner.iter + 1} must be finite. Got "
                f"{', '.join(f'{name}={_show(losses[name])}' for name in named)}. "
                "The parameters of this step are spoiled: resume from the last checkpoint with a smaller learning "
                "rate, clipped gradients or, under --amp, without it."
            )


def _finite(value: Any) -> bool:
    parts = value if isinstance(value, Sequence) else [value]
    return all(bool(torch.isfinite(torch.as_tensor(part)).all()) for part in parts)


def _show(value: Any) -> str:
    if isinstance(value, Sequence):
        return str(value)
    return f"{torch.as_tensor(value).detach().float().mean().item():g}"
