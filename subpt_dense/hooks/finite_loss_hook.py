"""Stops a run whose loss is no longer a number, naming the iteration and the loss."""

from collections.abc import Mapping
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
        losses = {name: torch.as_tensor(value).detach() for name, value in outputs.items() if "loss" in name}
        finite = torch.stack([value.float().isfinite().all() for value in losses.values()])
        if not finite.all():
            bad = [name for name, ok in zip(losses, finite.tolist(), strict=True) if not ok]
            # The sum is bad whenever a part is; the parts are what the user can act on.
            named = [name for name in bad if name != "loss"] or bad
            raise FloatingPointError(
                f"The losses of iteration {runner.iter + 1} must be finite. Got "
                f"{', '.join(f'{name}={losses[name].float().mean().item():g}' for name in named)}. "
                "Resume from the last checkpoint with a smaller learning rate, clipped gradients or, under --amp, "
                "without it."
            )
