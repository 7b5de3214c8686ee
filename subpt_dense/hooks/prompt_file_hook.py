"""A training leaves its prompt behind as a file that other tasks can use."""

import math
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from subpt_dense.evaluation import ResultTable
from subpt_dense.evaluation.commit import code_commit
from subpt_dense.hooks.basis_file import basis_id
from subpt_dense.hooks.host import host_of, in_training
from subpt_dense.hooks.identity_hook import head_identity
from subpt_dense.hooks.rewinding_loop import RewindingTrainLoop
from subpt_dense.hooks.subspace_hook import SubspaceHook
from subpt_dense.prompts import save_prompt
from subpt_dense.registry import HOOKS


@HOOKS.register_module()
class PromptFileHook(Hook):
    """Writes ``<work_dir>/prompt.safetensors``, see :func:`subpt_dense.prompts.save_prompt`.

    After every validation in training and at its end, in place of the file before; not while :class:`SubspaceHook`
    explores, whose prompt is not the run's. A head without learned parameters leaves no file. The scores are those of
    the written prompt: none where it has been trained on since the last validation. The first process alone writes.

    Args:
        file_name: Name of the file in the work dir.

    Raises:
        ValueError: If ``file_name`` is no ``.safetensors`` name; before training if the head has no vocabulary.
    """

    priority = "VERY_LOW"  # the training names are back by then

    def __init__(self, file_name: str = "prompt.safetensors") -> None:
        if Path(file_name).name != file_name or not file_name.endswith(".safetensors"):
            raise ValueError(
                f"`file_name` of PromptFileHook must be a name in the work dir that ends in .safetensors. "
                f"Got {file_name!r}."
            )
        self.file_name = file_name
        self._commit: str | None = None
        self._scored: tuple[int, dict[str, Any]] | None = None  # iterations done, facts of their validation

    def before_train(self, runner: Runner) -> None:
        """Checks that there will be names to write, and notes the commit the run starts from."""
        self._scored = None
        self._commit = code_commit()
        prompt = host_of(runner.model).prompt
        if prompt.prompt_parameters() and not prompt.vocabulary:
            raise ValueError(
                f"PromptFileHook writes the names a prompt was trained with. {type(prompt).__name__} has none: add "
                "`subpt_dense.VocabularyHook`, or set `prompt.vocabulary`."
            )

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keeps the scores."""
        if in_training(runner):
            self._scored = (runner.iter, _scores(runner, metrics or {}))

    def after_val(self, runner: Runner) -> None:
        """Writes the prompt that was validated."""
        if in_training(runner):
            self._write(runner)

    def after_train(self, runner: Runner) -> None:
        """Writes the prompt as it is at the end."""
        if self._write(runner):
            runner.logger.info(f"prompt file: {Path(runner.work_dir) / self.file_name}")

    def _write(self, runner: Runner) -> bool:
        prompt = host_of(runner.model).prompt
        hook = _subspace_hook(runner)
        if not is_main_process() or not prompt.prompt_parameters() or (hook is not None and hook.phase == "explore"):
            return False
        loop = runner.train_loop
        facts: dict[str, Any] = {
            "seed": runner.seed,
            "commit": self._commit,
            "config": Path(runner.cfg.filename).name if runner.cfg.filename else None,
            "subspace": _subspace(runner, hook),
            "iteration": runner.iter,
        }
        if isinstance(loop, EpochBasedTrainLoop):
            facts["epoch"] = loop.pass_epoch if isinstance(loop, RewindingTrainLoop) else runner.epoch
        if self._scored is not None and self._scored[0] == runner.iter:
            facts |= self._scored[1]
        save_prompt(Path(runner.work_dir) / self.file_name, prompt, facts=facts)
        return True


def _subspace_hook(runner: Runner) -> SubspaceHook | None:
    return next((hook for hook in runner.hooks if isinstance(hook, SubspaceHook)), None)


def _subspace(runner: Runner, hook: SubspaceHook | None) -> dict[str, Any] | None:
    """SubPT's settings, and the basis by its id: prompts of one basis can be told from others."""
    settings: dict[str, Any] | None = head_identity(runner)["subspace"]
    if settings is None or hook is None or hook.subspace is None:
        return settings
    return {**settings, "basis": basis_id(hook.subspace)}


def _scores(runner: Runner, metrics: dict[str, float]) -> dict[str, Any]:
    """``protocol`` and ``scores``: ``{"novel/accuracy": 61.5, ...}`` of the tables, else the host's own metrics."""
    found = [getattr(metric, "table", None) for metric in runner.val_loop.evaluator.metrics]
    tables = [table for table in found if isinstance(table, ResultTable)]
    scores = {
        f"{group}/{key}": float(value)
        for table in tables
        for group, values in table.groups.items()
        for key, value in values.items()
        if key != "classes" and value is not None
    }
    if not tables:
        numbers = {key: value for key, value in metrics.items() if isinstance(value, (int, float))}
        scores = {key: float(value) for key, value in numbers.items() if math.isfinite(value)}
    return {"protocol": "; ".join(table.protocol for table in tables) or None, "scores": scores}
