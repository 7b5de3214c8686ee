"""Random numbers in checkpoints: a resumed run goes on as if it had not stopped."""

from collections.abc import Mapping
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from subpt_dense.hooks.host import in_training
from subpt_dense.hooks.random_state import get_random_state, set_random_state
from subpt_dense.hooks.resumed_data import ResumedData
from subpt_dense.hooks.rewinding_loop import RewindingTrainLoop
from subpt_dense.registry import HOOKS

KEY = "run_state"
_LOOPS = (EpochBasedTrainLoop, IterBasedTrainLoop)  # RewindingTrainLoop is epoch-based


@HOOKS.register_module()
class RunStateHook(Hook):
    """Stores every rank's random state in the checkpoints, and puts it back in a resumed run.

    - :class:`RewindingTrainLoop`: in the checkpoints at the ends of epochs, with what a rewind will restore.
    - mmengine's ``EpochBasedTrainLoop``: likewise. Persistent workers go on with numbers of their own, which cannot be
      put back: a resumed run warns of them.
    - mmengine's ``IterBasedTrainLoop``: in the checkpoints after any iteration. A resumed run gets its place in the
      data back as well, see :class:`ResumedData`. A gradient that was half accumulated is lost with a stop.

    Validation in training draws numbers of its own; they are put back after it, so that how often a run is validated
    does not change what it learns, and the state it began with is the one training goes on with.

    Other loops are left alone, and a resumed run says so.

    Raises:
        ValueError: If a resumed checkpoint has no such state, or was written by another number of processes or with
            another seed, which the order of the data follows.
    """

    priority = "LOW"  # after all that draws numbers, before CheckpointHook

    def __init__(self) -> None:
        self._ranks: list[Any] = []
        self._done = 0  # iterations done when they were collected
        self._loaded: dict[str, Any] | None = None
        self._before_val: dict[str, Any] | None = None
        self._next_epoch: dict[str, Any] | None = None  # what a resumed epoch begins with

    def before_train(self, runner: Runner) -> None:
        """Hand the loaded state to the loop, if this is a resumed run."""
        loop, state, self._loaded = runner.train_loop, self._loaded, None
        self._ranks, self._next_epoch = [], None
        if runner.iter == 0:
            return
        if not isinstance(loop, _LOOPS):
            runner.logger.warning(
                f"RunStateHook does not know {type(loop).__name__}: this resumed run draws other random numbers than "
                "one that had not stopped. Epoch-based and iteration-based loops resume exactly."
            )
            return
        checked = _check(state, _data_seed(loop))
        mine, start = checked["random"][get_rank()], checked["start"]
        if isinstance(loop, RewindingTrainLoop):
            loop.take_up({"random": mine["now"], "start": start and {**start, "random": mine["start"]}})
        elif isinstance(loop, EpochBasedTrainLoop):
            self._next_epoch = mine["now"]
            if loop.dataloader.persistent_workers:
                runner.logger.warning(
                    "The random numbers of persistent workers cannot be put back: this resumed run's data is augmented "
                    "otherwise than that of one that had not stopped. Set `train_dataloader.persistent_workers=False` "
                    "for runs that resume exactly."
                )
        else:
            loop.dataloader_iterator = ResumedData(
                loop.dataloader_iterator, loop.dataloader, loop.iter, lambda: set_random_state(mine["now"])
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Put the state back where a resumed epoch begins."""
        if self._next_epoch is not None:
            set_random_state(self._next_epoch)
            self._next_epoch = None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Collect the states of all ranks where a checkpoint follows: it is written by the first one alone."""
        if isinstance(runner.train_loop, IterBasedTrainLoop) and _saves_now(runner):
            self._collect(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Likewise at the end of an epoch."""
        if isinstance(runner.train_loop, _LOOPS):
            self._collect(runner, runner.iter)

    def before_val(self, runner: Runner) -> None:
        """Remember the state."""
        if in_training(runner):
            self._before_val = get_random_state()

    def after_val(self, runner: Runner) -> None:
        """Put it back."""
        if self._before_val is not None:
            set_random_state(self._before_val)
            self._before_val = None

    def _collect(self, runner: Runner, done: int) -> None:
        start = getattr(runner.train_loop, "start", None)
        state = {"now": get_random_state(), "start": start and start["random"]}
        self._ranks = [state] if get_world_size() == 1 else all_gather_object(state)
        self._done = done

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the state, unless it is of another moment, or the checkpoint (a best one) lacks the optimizer's."""
        loop = runner._train_loop
        ready = self._ranks and checkpoint["meta"]["iter"] == self._done and "optimizer" in checkpoint
        if not isinstance(loop, _LOOPS) or not ready:
            return
        explored = getattr(loop, "explored", 0)
        checkpoint[KEY] = {
            "random": self._ranks,
            "start": loop.start if explored else None,
            "data_seed": _data_seed(loop),
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep the state for :meth:`before_train`."""
        self._loaded = checkpoint.get(KEY)


def _check(state: Mapping[str, Any] | None, data_seed: int | None) -> Mapping[str, Any]:
    if state is None:
        raise ValueError(
            f"A checkpoint to resume with RunStateHook must hold `{KEY}`. Found none: it was written without the "
            "hook, within an epoch of an epoch-based loop, or as a best one, which holds weights alone. To start a "
            "new run from its weights, use `load_from` without `resume`."
        )
    if len(state["random"]) != get_world_size():
        raise ValueError(
            f"A run must be resumed with as many processes as wrote the checkpoint, {len(state['random'])}. "
            f"Got {get_world_size()}."
        )
    written = state.get("data_seed", data_seed)
    if written != data_seed:
        raise ValueError(
            f"A run must be resumed with the seed that its checkpoint's data was shuffled with, {written}. "
            f"Got {data_seed}. Set `randomness.seed={written}`."
        )
    return state


def _data_seed(loop: Any) -> int | None:
    """What the order of the data follows; None where the sampler has no seed."""
    return getattr(getattr(loop.dataloader.batch_sampler, "sampler", None), "seed", None)


def _saves_now(runner: Runner) -> bool:
    """Whether a CheckpointHook writes after this iteration."""
    return any(
        hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
        or (hook.save_last and hook.is_last_train_iter(runner))
        for hook in runner.hooks
        if isinstance(hook, CheckpointHook) and not hook.by_epoch
    )
