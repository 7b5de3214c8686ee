"""Random numbers in checkpoints: a resumed run of :class:`RewindingTrainLoop` goes on as if it had not stopped."""

from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from subpt_dense.hooks.host import in_training
from subpt_dense.hooks.random_state import get_random_state, set_random_state
from subpt_dense.hooks.rewinding_loop import RewindingTrainLoop
from subpt_dense.registry import HOOKS

KEY = "run_state"


@HOOKS.register_module()
class RunStateHook(Hook):
    """Stores every rank's random state, and what a rewind will restore, in the checkpoints at the ends of epochs.

    Validation in training draws numbers of its own; they are put back after it, so that how often a run is validated
    does not change what it learns, and the state at the end of an epoch is the one the next begins with.

    Iteration-based loops are left alone: mmengine resumes them by reading the data once more.

    Raises:
        ValueError: If a resumed checkpoint has no such state, or was written by another number of processes.
    """

    priority = "LOW"  # after all that draws numbers, before CheckpointHook

    def __init__(self) -> None:
        self._ranks: list[Any] = []
        self._loaded: dict[str, Any] | None = None
        self._before_val: dict[str, Any] | None = None

    def before_train(self, runner: Runner) -> None:
        """Hand the loaded state to the loop, if this is a resumed run."""
        loop, state, self._loaded = runner.train_loop, self._loaded, None
        if not isinstance(loop, RewindingTrainLoop) or runner.iter == 0:
            return
        if state is None:
            raise ValueError(
                f"A checkpoint to resume with RunStateHook must hold `{KEY}`. Found none: it was written without the "
                "hook. To start a new run from its weights, use `load_from` without `resume`."
            )
        if len(state["random"]) != get_world_size():
            raise ValueError(
                f"A run must be resumed with as many processes as wrote the checkpoint, {len(state['random'])}. "
                f"Got {get_world_size()}."
            )
        mine, start = state["random"][get_rank()], state["start"]
        loop.take_up({"random": mine["now"], "start": start and {**start, "random": mine["start"]}})

    def after_train_epoch(self, runner: Runner) -> None:
        """Collect the states of all ranks: a checkpoint is written by the first one alone."""
        if isinstance(runner.train_loop, RewindingTrainLoop):
            start = runner.train_loop.start
            state = {"now": get_random_state(), "start": start and start["random"]}
            self._ranks = [state] if get_world_size() == 1 else all_gather_object(state)

    def before_val(self, runner: Runner) -> None:
        """Remember the state."""
        if in_training(runner):
            self._before_val = get_random_state()

    def after_val(self, runner: Runner) -> None:
        """Put it back."""
        if self._before_val is not None:
            set_random_state(self._before_val)
            self._before_val = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the state."""
        loop = runner._train_loop
        if isinstance(loop, RewindingTrainLoop) and self._ranks:
            checkpoint[KEY] = {"random": self._ranks, "start": loop.start if loop.explored else None}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep the state for :meth:`before_train`."""
        self._loaded = checkpoint.get(KEY)
