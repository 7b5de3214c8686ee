"""An epoch-based train loop that can go back to its start: SubPT's two passes in one run."""

import copy
import functools
import random
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop

from subpt_dense.hooks.host import host_of
from subpt_dense.hooks.random_state import get_random_state, set_random_state
from subpt_dense.registry import LOOPS


@LOOPS.register_module()
class RewindingTrainLoop(EpochBasedTrainLoop):
    """mmengine's epoch-based loop; one who explores first has it start anew after some epochs.

    ``max_epochs`` is the length of a pass, and schedules are made for it. :meth:`rewind_after` puts an exploring pass
    before: at its end model, optimizer, schedules, random numbers, gradient accumulation and the order of the data go
    back to what they were when training began, and a whole pass follows, as if it were a new run. Epochs and iterations
    count on over both passes, so that logs, checkpoints and the remaining time need no second scale;
    :attr:`pass_epoch` counts within a pass, and checkpoints say which pass they are of (``explore_epoch_3.pth``).
    Without :meth:`rewind_after` there is one pass, ``train``, with mmengine's own names.

    Stopped at the end of any epoch and resumed (see :class:`RunStateHook`, which it needs), a run ends with the same
    numbers as without the stop.

    Args:
        runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals: As for mmengine's
            ``EpochBasedTrainLoop``; workers of the data loader must not be persistent.

    Attributes:
        explored: Length of the exploring pass in epochs; 0 without one.
        start: What a rewind restores, the states of model, optimizer, schedules and random numbers; None before the
            first epoch and after the rewind.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.explored = 0
        self.start: dict[str, Any] | None = None
        self._turn: Callable[[Any], None] | None = None
        self._resumed: Mapping[str, Any] | None = None
        if self.dataloader.num_workers:
            if self.dataloader.persistent_workers:
                raise ValueError(
                    "`train_dataloader.persistent_workers` must be False for RewindingTrainLoop: the random numbers of "
                    "living workers cannot be put back. Got True."
                )
            offset = get_rank() * self.dataloader.num_workers
            self.dataloader.worker_init_fn = functools.partial(_seed_worker, offset)

    @property
    def phase(self) -> str:
        """``explore`` or ``train``: the pass that the epoch under way (or next) belongs to."""
        return "explore" if self._epoch < self.explored else "train"

    @property
    def pass_epochs(self) -> int:
        """Length of a whole pass."""
        return self._max_epochs - self.explored

    @property
    def pass_epoch(self) -> int:
        """Epochs done in this pass."""
        return self._epoch if self.phase == "explore" else self._epoch - self.explored

    def rewind_after(self, epochs: int, turn: Callable[[Any], None]) -> None:
        """Explore before the whole pass. To be called before the first epoch, also of a resumed run.

        Args:
            epochs: Length of the exploration.
            turn: Called with the runner when everything has been restored.

        Raises:
            ValueError: If the exploration is empty or not shorter than a pass.
            RuntimeError: If somebody else explores already.
        """
        if self._turn is not None:
            raise RuntimeError("RewindingTrainLoop can explore for one hook only. Got a second one.")
        if not 1 <= epochs < self._max_epochs:
            raise ValueError(
                f"An exploration of RewindingTrainLoop must be of 1 to {self._max_epochs - 1} epochs. Got {epochs}."
            )
        self._turn = turn
        self.explored = epochs
        for hook in self.runner.hooks:
            if isinstance(hook, CheckpointHook):
                hook.filename_tmpl = _PhaseName(hook.filename_tmpl)
                hook.filename_tmpl.explored = epochs * (1 if hook.by_epoch else len(self.dataloader))
        self._max_iters = (self._max_epochs + epochs) * len(self.dataloader)
        self._max_epochs += epochs

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Have the first epoch of a resumed run begin with ``random`` and, while exploring, ``start`` of this state."""
        self._resumed = state

    def run_epoch(self) -> None:
        """One epoch, after the rewind where it is due."""
        runner = self.runner
        if self._resumed is not None:
            set_random_state(self._resumed["random"])
            self.start = self._resumed["start"]
            self._resumed = None
            self._count_from(self.pass_epoch)
        elif self._epoch == 0 and self.explored:
            self.start = self._capture()
        if self._turn is not None and self._epoch == self.explored:
            self._rewind()
        if self.pass_epoch == 0 and self.explored:
            first, last = (0, self.explored) if self.phase == "explore" else (self.explored, self._max_epochs)
            runner.logger.info(f"phase {self.phase}: epochs {first + 1} to {last}")
        runner.message_hub.update_info("phase", self.phase)
        for sampler in (self.dataloader.sampler, getattr(self.dataloader.batch_sampler, "sampler", None)):
            if sampler is not None and hasattr(sampler, "set_epoch"):
                sampler.set_epoch(self.pass_epoch)
        super().run_epoch()

    def _capture(self) -> dict[str, Any]:
        runner = self.runner
        return {
            "model": copy.deepcopy(host_of(runner.model).state_dict()),
            "optimizer": copy.deepcopy(runner.optim_wrapper.state_dict()),
            "schedulers": copy.deepcopy([scheduler.state_dict() for scheduler in _schedulers(runner)]),
            "random": get_random_state(),
        }

    def _rewind(self) -> None:
        runner, start = self.runner, self.start
        if start is None:
            raise RuntimeError("RewindingTrainLoop has no start to go back to: the checkpoint did not hold it.")
        host_of(runner.model).load_state_dict(start["model"])
        runner.optim_wrapper.load_state_dict(start["optimizer"])
        runner.optim_wrapper.zero_grad()
        for scheduler, state in zip(_schedulers(runner), start["schedulers"], strict=True):
            scheduler.load_state_dict(state)
        self._count_from(0)
        if self._turn is not None:
            self._turn(runner)
        set_random_state(start["random"])
        self.start = None

    def _count_from(self, epoch: int) -> None:
        """Let gradient accumulation count within the pass: a remainder at its end is the pass's own."""
        per_epoch = len(self.dataloader)
        self.runner.optim_wrapper.initialize_count_status(
            self.runner.model, epoch * per_epoch, self.pass_epochs * per_epoch
        )


def _seed_worker(offset: int, worker: int) -> None:
    """Seed a worker from the number that torch drew for it in the main process: new in every epoch, and rewound."""
    seed = (torch.initial_seed() + offset) % 2**32
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class _PhaseName(str):
    """A checkpoint's file name by its epoch or iteration, as CheckpointHook asks for it, with the pass before it."""

    explored: int

    def format(self, *args: object, **kwargs: object) -> str:
        (step,) = args
        return f"{'explore' if cast(int, step) <= self.explored else 'train'}_{super().format(step)}"


def _schedulers(runner: Any) -> list[Any]:
    return list(runner.param_schedulers or [])
