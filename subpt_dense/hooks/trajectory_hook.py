"""Records where a prompt went and where its gradients pointed, for later analysis (P prompt numbers)."""

import math
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn

from subpt_dense.evaluation.trajectory import FILE_NAME, Record, Trajectory
from subpt_dense.hooks.learned_prompt import find_optimizer, find_prompt_parameters
from subpt_dense.hooks.subspace_hook import SubspaceHook
from subpt_dense.registry import HOOKS


@HOOKS.register_module()
class TrajectoryHook(Hook):
    """Writes ``<work_dir>/trajectory.safetensors``, see :class:`subpt_dense.evaluation.Trajectory`.

    After every epoch it records the flattened prompt parameters and the mean of the epoch's gradients as the optimizer
    got them, before :class:`SubspaceHook` projects: after AMP unscaling, accumulation, all-reduce and clipping.
    It changes nothing. The file is written with every checkpoint and at the end of training; a resumed run goes on with
    the one in its work dir.

    Args:
        interval: Distance of two records in epochs, >= 1. The mean is over all steps since the last record.

    Attributes:
        trajectory: What has been recorded; None before training.

    Raises:
        ValueError: For a bad argument; before training for a loop without epochs, a model without learned prompt
            parameters, or a resumed run whose file is of other parameters.

    Source: the analysis of arXiv 2211.02219, section 3, which looks at trajectories and gradients over training.
    """

    priority = "ABOVE_NORMAL"  # before SubspaceHook: its step hook comes later, and sees what this one has seen

    def __init__(self, interval: int = 1) -> None:
        if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
            raise ValueError(f"`interval` of TrajectoryHook must be an int of at least 1. Got {interval!r}.")
        self.interval = interval
        self.trajectory: Trajectory | None = None
        self._parameters: dict[str, nn.Parameter] = {}
        self._subspace: SubspaceHook | None = None
        self._handle: Any = None
        self._records: list[Record] = []
        self._initial = torch.empty(0)
        self._sum: Tensor | None = None  # of what came since the last record
        self._steps = 0
        self._whole: Tensor | float = 0.0  # squared lengths, and those of the parts in the subspace
        self._kept: Tensor | float = 0.0

    def before_train(self, runner: Runner) -> None:
        """Finds the prompt and its optimizer; takes up what a resumed run has recorded."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError(
                f"TrajectoryHook records epochs, and needs an epoch-based train loop. Got "
                f"{type(runner.train_loop).__name__}."
            )
        self._parameters = find_prompt_parameters(runner.model, "TrajectoryHook")
        optimizer = find_optimizer(runner.optim_wrapper, self._parameters, "TrajectoryHook")
        self._subspace = next((hook for hook in runner.hooks if isinstance(hook, SubspaceHook)), None)
        self._initial, self._records, self.trajectory = _flat(self._parameters), [], None
        if runner.epoch > 0:
            self._resume(runner)
        self._forget()
        self._detach()
        self._handle = optimizer.register_step_pre_hook(self._before_step)

    def _resume(self, runner: Runner) -> None:
        file = Path(runner.work_dir) / FILE_NAME
        if not file.is_file():
            runner.logger.warning(f"TrajectoryHook: {file} is not there; the record begins with this resumed run.")
            return
        found = Trajectory.read(file)
        if found.shapes != self._shapes():
            raise ValueError(
                f"{file} must be of this run's prompt parameters, {self._shapes()}, to go on with it. "
                f"Got {found.shapes}."
            )
        self._initial = found.initial
        # It may be newer than the checkpoint.
        self._records = [record for record in found.records() if record.epoch <= runner.epoch]

    def after_train_epoch(self, runner: Runner) -> None:
        """Records."""
        if (runner.epoch + 1) % self.interval:
            return
        mean = torch.zeros_like(self._initial) if self._sum is None else (self._sum / self._steps).float().cpu()
        inside = (self._kept / self._whole).item() if torch.is_tensor(self._whole) else math.nan
        phase = getattr(runner.train_loop, "phase", "train")
        now = _flat(self._parameters)
        self._records.append(Record(runner.epoch + 1, phase, now, mean, self._steps, inside))
        self._forget()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Writes the file, so that a run that is killed keeps it."""
        self._write(runner)

    def after_train(self, runner: Runner) -> None:
        """Writes the file and lets go of the optimizer."""
        self._write(runner)
        self._detach()

    def _write(self, runner: Runner) -> None:
        if not self._parameters:
            return
        self.trajectory = Trajectory.of(self._shapes(), self._initial, self._records)
        if is_main_process():
            self.trajectory.write(Path(runner.work_dir) / FILE_NAME)

    def _shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return tuple((name, tuple(parameter.shape)) for name, parameter in self._parameters.items())

    @torch.no_grad()
    def _before_step(self, *_: Any) -> None:
        """Adds a step's gradient; on the device and without synchronisation."""
        gradient = torch.cat(
            [
                (torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).double()
                for p in self._parameters.values()
            ]
        )
        self._sum = gradient if self._sum is None else self._sum + gradient
        self._steps += 1
        subspace = None if self._subspace is None else self._subspace.subspace
        if subspace is not None:
            kept = subspace.keep(gradient)
            self._whole, self._kept = self._whole + gradient @ gradient, self._kept + kept @ kept

    def _forget(self) -> None:
        self._sum, self._steps, self._whole, self._kept = None, 0, 0.0, 0.0

    def _detach(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None


def _flat(parameters: dict[str, nn.Parameter]) -> Tensor:
    """The parameters ``[P]`` as float32 on the CPU."""
    return torch.cat([value.detach().reshape(-1).float().cpu() for value in parameters.values()])
