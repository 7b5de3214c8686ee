"""SubPT inside one run: explore, fit a basis, rewind the prompt, project (n snapshots, P prompt numbers, R rank)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from subpt_dense.hooks.basis_file import BasisFile, basis_id, check_origin, describe_origin, load_basis, save_basis
from subpt_dense.hooks.host import host_of
from subpt_dense.hooks.learned_prompt import find_optimizer, find_prompt_parameters, why_gradients_leak
from subpt_dense.hooks.rewinding_loop import RewindingTrainLoop
from subpt_dense.registry import HOOKS
from subpt_dense.subspace import Subspace, fit_basis, flatten, write_flat

_STARTS = ("first_snapshot", "init", "last_snapshot")
_PROJECTIONS = ("gradient", "update")
_REWINDS = ("prompt", "run")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@HOOKS.register_module()
class SubspaceHook(Hook):
    """Explores, then keeps the learned prompt in the subspace of its early trajectory.

    The first ``explore`` iterations train as without the hook while the prompt parameters are recorded. Then a basis is
    fitted to the records, the prompt goes back to ``start_from``, its optimizer state and half-accumulated gradient are
    dropped, and what follows is projected. With ``rewind="prompt"`` the rest of the model, the schedule and the data go
    on, and the run is as long as without the hook; with ``rewind="run"`` they start anew too, and a whole run follows
    (the official release's way; it needs a ``RewindingTrainLoop``). The learned
    parameters are those of ``model.prompt.prompt_parameters()``; several tensors share one basis over their
    concatenation, in that order.

    The projection happens in the optimizer's own step hooks: after AMP unscaling, gradient accumulation, all-reduce and
    clipping (it sees *clipped* gradients), and not at all in a step that AMP skips. What stays in the span:

    - ``project="gradient"``: every gradient. Hence, for SGD with any momentum and no weight decay, the displacement
      from the rewind point, up to the rounding of the parameters themselves, which adds up like the square root of
      the steps. Weight decay leaks a little; an adaptive optimizer such as AdamW leaves the span altogether. A warning
      says so in both cases.
    - ``project="update"``: the displacement from the rewind point itself, whatever the optimizer and its weight decay.
      The whole displacement is projected after every step (in exact arithmetic that equals projecting the step), so
      rounding does not add up. The optimizer's own state is not projected.

    An averaged copy of the model (mmengine's ``EMAHook``) must begin after exploring, or it mixes in what was rewound.

    Args:
        rank: R, number of directions kept, in [1, n - 1] for n snapshots.
        explore: Length of the exploration: a count (int), or a fraction of the run in (0, 1) (float). Not needed with
            ``basis_file``.
        interval: Distance of two snapshots, likewise a count or a fraction of the run; the first is taken after one
            interval.
        by_epoch: Count ``explore`` and ``interval`` in epochs instead of iterations.
        start_from: Where the prompt restarts: ``first_snapshot``, ``init`` (its value when training began) or
            ``last_snapshot``.
        project: ``gradient`` or ``update``.
        rewind: What goes back to the start after exploring, the ``prompt`` alone or the whole ``run``.
        basis_file: Project onto the subspace in this file, from the first step on, and do not explore. Every run that
            explores writes one, ``subspace.safetensors`` in its work dir.

    Attributes:
        phase: ``explore`` or ``project``.
        subspace: The fitted :class:`~subpt_dense.subspace.Subspace`; None while exploring.
        start: The rewind point ``[P]`` on the CPU; None while exploring.

    Raises:
        ValueError: At once for a bad argument; before training for a model without learned prompt parameters, an
            optimizer that does not train them, too few snapshots, or a resumed checkpoint of another setting; at the
            end of exploring if the snapshots vary in fewer than ``rank`` directions.

    Source: method of arXiv 2211.02219; ``gradient`` and ``first_snapshot`` are the official release's choices.
    """

    priority = "NORMAL"  # before CheckpointHook: a checkpoint at the turn holds the rewound prompt

    def __init__(
        self,
        *,
        rank: int,
        explore: int | float | None = None,
        interval: int | float = 1,
        by_epoch: bool = False,
        start_from: str = "first_snapshot",
        project: str = "gradient",
        rewind: str = "prompt",
        basis_file: str | None = None,
    ) -> None:
        if not _is_count(rank):
            raise ValueError(f"`rank` of SubspaceHook must be an int of at least 1. Got {rank!r}.")
        if (explore is None) == (basis_file is None):
            raise ValueError(
                "SubspaceHook needs either `explore` or `basis_file`. "
                f"Got {'neither' if explore is None else f'explore={explore} and basis_file={basis_file!r}'}."
            )
        for name, length in (("explore", 1 if explore is None else explore), ("interval", interval)):
            if not _is_count(length) and not (isinstance(length, float) and 0 < length < 1):
                raise ValueError(
                    f"`{name}` of SubspaceHook must be a count of at least 1 (int) or a fraction of the run in (0, 1) "
                    f"(float). Got {length!r}."
                )
        choices = (
            ("start_from", start_from, _STARTS),
            ("project", project, _PROJECTIONS),
            ("rewind", rewind, _REWINDS),
        )
        for name, choice, allowed in choices:
            if choice not in allowed:
                raise ValueError(f"`{name}` of SubspaceHook must be one of {', '.join(allowed)}. Got {choice!r}.")
        self.rank = rank
        self.explore = explore
        self.interval = interval
        self.by_epoch = by_epoch
        self.start_from = start_from
        self.project = project
        self.rewind = rewind
        self.basis_file = basis_file
        self.phase = "explore"
        self.subspace: Subspace | None = None
        self.start: Tensor | None = None
        self._unit = "epochs" if by_epoch else "iterations"
        self._explore_end = 0  # `explore` and `interval` as counts
        self._interval = 0
        self._initial = torch.empty(0)
        self._snapshots: list[Tensor] = []
        self._parameters: dict[str, nn.Parameter] = {}
        self._pending: Mapping[str, Any] | None = None
        self._handles: list[Any] = []
        self._origin: Tensor | None = None  # `start` in float64, beside the basis
        self._before: Tensor | None = None  # the parameters before the step under way

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, as results name them."""
        keys = ("rank", "explore", "interval", "by_epoch", "start_from", "project", "rewind", "basis_file")
        return {key: getattr(self, key) for key in keys}

    # ---- before training: find, check, take up ---------------------------------------------------------------------

    def before_train(self, runner: Runner) -> None:
        """Finds the prompt, checks every argument against the run, and takes up a resumed state."""
        self._parameters = find_prompt_parameters(runner.model, "SubspaceHook")
        optimizer = find_optimizer(runner.optim_wrapper, self._parameters, "SubspaceHook")
        if self.explore is not None:
            self._resolve_lengths(runner)
            self._check_rank(runner)
            if self.rewind == "run":
                self._ask_to_rewind(runner)
        leak = why_gradients_leak(optimizer, self._parameters) if self.project == "gradient" else None
        if leak:
            runner.logger.warning(
                f"SubspaceHook projects gradients, but {leak}: the prompt will leave the subspace. "
                "Use `project='update'` to keep it in."
            )
        if runner.iter > 0 or runner.epoch > 0:
            self._resume(runner)
        else:
            self.phase, self.subspace, self.start, self._origin = "explore", None, None, None
            self._snapshots = []
            self._initial = flatten(self._parameters.values()).cpu()
            if self.basis_file is not None:
                self._take_basis(runner, self.basis_file)
        self._pending = None
        self._detach()
        self._handles = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def after_train(self, runner: Runner) -> None:
        """Lets go of the optimizer."""
        self._detach()

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._before = None

    def _resolve_lengths(self, runner: Runner) -> None:
        total = runner.max_epochs if self.by_epoch else runner.max_iters
        if total < 2:
            raise ValueError(
                f"SubspaceHook needs a run of at least 2 {self._unit}. Got {total}. "
                "An iteration-based loop counts as one epoch: set `by_epoch=False` there."
            )
        self._explore_end, self._interval = (
            length if isinstance(length, int) else max(1, round(length * total))
            for length in (self.explore or 0, self.interval)
        )
        if self._explore_end >= total:
            raise ValueError(
                f"`explore` of SubspaceHook must be in [1, {total - 1}] for a run of {total} {self._unit}: "
                f"something must be left to project. Got {self.explore}, which makes {self._explore_end}."
            )

    def _take_basis(self, runner: Runner, path: str) -> None:
        """Start where an earlier exploration ended."""
        file = load_basis(path)
        check_origin(path, file.origin, self._origin_of(runner))
        if self.rank > file.subspace.rank:
            raise ValueError(
                f"`rank` of SubspaceHook must be in [1, {file.subspace.rank}] for {path}. Got {self.rank}."
            )
        kept = Subspace(file.subspace.basis[: self.rank], file.subspace.explained[: self.rank])
        start = self._initial if self.start_from == "init" else file.starts[self.start_from]
        self._enter_projection(kept, start)
        write_flat(start, self._parameters.values())
        runner.logger.info(f"SubspaceHook: basis {basis_id(kept)} of rank {kept.rank} from {path}; it does not explore")

    def _origin_of(self, runner: Runner) -> dict[str, Any]:
        return describe_origin(host_of(runner.model).prompt, self._parameters, self.settings)

    def _ask_to_rewind(self, runner: Runner) -> None:
        loop = runner.train_loop
        if not isinstance(loop, RewindingTrainLoop):
            raise ValueError(
                "`rewind='run'` of SubspaceHook needs `train_cfg.type='subpt_dense.RewindingTrainLoop'`. "
                f"Got {type(loop).__name__}. Use `rewind='prompt'` with other loops."
            )
        length = 1 if self.by_epoch else len(runner.train_dataloader)
        if self._explore_end % length:
            raise ValueError(
                "`explore` of SubspaceHook must be whole epochs for `rewind='run'`, a multiple of "
                f"{length} iterations. Got {self.explore}, which makes {self._explore_end}."
            )
        loop.rewind_after(self._explore_end // length, self._turn)

    def _check_rank(self, runner: Runner) -> None:
        """Counts the *different* snapshots: none differ between two steps of an accumulated gradient."""
        accumulated = runner.optim_wrapper._accumulative_counts
        iters = self._interval * (len(runner.train_dataloader) if self.by_epoch else 1)
        steps = {index * iters // accumulated for index in range(1, self._explore_end // self._interval + 1)}
        length = sum(parameter.numel() for parameter in self._parameters.values())
        highest = min(len(steps) - 1, length)
        if self.rank <= highest:
            return
        count = f"{len(steps)} snapshots" + (f" of {length} numbers" if length < len(steps) - 1 else "")
        setting = f"explore={self._explore_end}, interval={self._interval}, accumulative_counts={accumulated}"
        allowed = f"in [1, {highest}] for {count}" if highest > 0 else f"below the number of snapshots, {len(steps)}"
        raise ValueError(
            f"`rank` of SubspaceHook must be {allowed}. Got {self.rank}. "
            f"Lower `rank`, explore longer or lower `interval` ({setting})."
        )

    # ---- exploring ---------------------------------------------------------------------------------------------------

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Records, and turns when exploring ends."""
        if not self.by_epoch:
            self._advance(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Records, and turns when exploring ends."""
        if self.by_epoch:
            self._advance(runner, runner.epoch + 1)

    def _advance(self, runner: Runner, done: int) -> None:
        if self.phase != "explore":
            return
        if done % self._interval == 0:
            self._snapshots.append(flatten(self._parameters.values()).cpu())
        if done >= self._explore_end and self.rewind == "prompt":
            self._turn(runner)

    def _turn(self, runner: Runner) -> None:
        """Fits the basis, rewinds the prompt and forgets its optimizer state."""
        starts = {"init": self._initial, "first_snapshot": self._snapshots[0], "last_snapshot": self._snapshots[-1]}
        start = starts[self.start_from]
        subspace = self._fit(torch.stack(self._snapshots))
        broadcast(subspace.basis)  # every rank projects with rank 0's, to the bit
        self._enter_projection(subspace, start)
        if is_main_process():
            file = BasisFile(subspace, {key: value.cpu() for key, value in starts.items()}, self._origin_of(runner))
            save_basis(Path(runner.work_dir) / "subspace.safetensors", file)
        write_flat(start, self._parameters.values())
        for parameter in self._parameters.values():
            runner.optim_wrapper.optimizer.state.pop(parameter, None)
            parameter.grad = None
        shares = ", ".join(f"{100 * share:.2f}" for share in subspace.explained.tolist())
        runner.logger.info(
            f"SubspaceHook: explored {self._explore_end} {self._unit}, {len(self._snapshots)} snapshots of "
            f"{subspace.length} numbers. The basis of rank {subspace.rank} explains "
            f"{100 * subspace.explained.sum().item():.2f} % of their variance ({shares}). "
            f"The prompt restarts from {self.start_from}; its {self.project} is projected from here on."
        )
        self._snapshots = []

    def _fit(self, snapshots: Tensor) -> Subspace:
        """The basis of the snapshots ``[n, P]`` (on the CPU). Tests override this to inject a known one."""
        return fit_basis(snapshots, self.rank)

    def _enter_projection(self, subspace: Subspace, start: Tensor) -> None:
        device = next(iter(self._parameters.values())).device
        self.phase = "project"
        self.subspace = subspace if device.type == "mps" else subspace.to(device)  # MPS knows no float64
        self.start = start.cpu()
        self._origin = start.to(self.subspace.basis)

    # ---- projecting --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _before_step(self, *_: Any) -> None:
        if self.subspace is None:
            return
        parameters = list(self._parameters.values())
        if self.project == "update":
            self._before = flatten(parameters)
        elif any(parameter.grad is not None for parameter in parameters):
            for parameter in parameters:
                if parameter.grad is None:  # a missing gradient is zero, but its projection need not be
                    parameter.grad = torch.zeros_like(parameter)
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            write_flat(self.subspace.keep(flatten(gradients)), gradients)

    @torch.no_grad()
    def _after_step(self, *_: Any) -> None:
        if self.subspace is None or self._before is None or self._origin is None:
            return
        parameters = list(self._parameters.values())
        theta = flatten(parameters)
        moved = (theta != self._before).any().to(self._origin.device)  # no synchronisation with the host
        exact = theta.to(self._origin)
        inside = exact - self.subspace.remove(exact - self._origin)  # to the bit where nothing lies outside
        write_flat(torch.where(moved, inside, exact), parameters)
        self._before = None

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Stores the hook's state under ``subspace``: plain tensors, numbers and strings."""
        if not self._parameters:
            return
        checkpoint["subspace"] = {
            **self._identity(),
            "phase": self.phase,
            "initial": self._initial,
            "snapshots": torch.stack([self._initial, *self._snapshots])[1:],
            "start": self.start,
            "subspace": self.subspace.state_dict() if self.subspace is not None else None,
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keeps the stored state for :meth:`before_train`, which takes it up on resume and ignores it otherwise."""
        self._pending = checkpoint.get("subspace")

    def _identity(self) -> dict[str, Any]:
        """What a resumed run must share with the checkpoint's."""
        return {
            "parameters": [[name, list(parameter.shape)] for name, parameter in self._parameters.items()],
            "settings": {
                "rank": self.rank,
                "explore": self._explore_end,
                "interval": self._interval,
                "by_epoch": self.by_epoch,
                "start_from": self.start_from,
                "project": self.project,
                "rewind": self.rewind,
                "basis_file": self.basis_file and basis_id(load_basis(self.basis_file).subspace),
            },
        }

    def _resume(self, runner: Runner) -> None:
        state = self._pending
        if state is None:
            raise ValueError(
                "A checkpoint resumed with SubspaceHook must hold the state `subspace`. Found none: it was written "
                "without the hook. To start a new run from its weights, use `load_from` without `resume`."
            )
        for key, mine in self._identity().items():
            if state[key] != mine:
                raise ValueError(
                    f"The checkpoint's `{key}` of SubspaceHook must equal this run's. The checkpoint has {state[key]}, "
                    f"this run {mine}. Resume with the config that wrote it."
                )
        self._initial = state["initial"].cpu()
        self._snapshots = list(state["snapshots"].cpu().unbind())
        self.phase, self.subspace, self.start, self._origin = "explore", None, None, None
        if state["phase"] == "project":
            self._enter_projection(Subspace.from_state_dict(state["subspace"]), state["start"])
            return
        done = runner.epoch if self.by_epoch else runner.iter
        if len(self._snapshots) != done // self._interval:
            raise ValueError(
                f"The checkpoint of SubspaceHook must hold {done // self._interval} snapshots after {done} "
                f"{self._unit}. Got {len(self._snapshots)}."
            )
