"""One run of a dense task's study: a model trained once, and tested in every mode and with wrong rows."""

import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from subpt_dense.apis.config import load_config
from subpt_dense.apis.grades import train_grades
from subpt_dense.apis.own_globals import own_globals, quiet
from subpt_dense.apis.run import test, train
from subpt_dense.apis.work_dir import claim_work_dir, fingerprints
from subpt_dense.datasets import get_split, write_json
from subpt_dense.heads import complete_prompt
from subpt_dense.registry import MODELS
from subpt_dense.toyworld.controls import write_control_rows

RESULT = "result.json"
#: Overrides of every run: one validation at the end would be of no use, and one checkpoint is enough.
LEAN = {
    "train_cfg.val_begin": 10**9,
    "default_hooks.checkpoint.interval": 10**9,  # the last one is written in any case
    "default_hooks.checkpoint.max_keep_ckpts": 1,
}

#: What a test's tables (``tables`` of its JSON) come to, as JSON can hold it.
Scores = Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]


class DenseRun(NamedTuple):
    """One run to do.

    Attributes:
        head: What tables call it.
        config: The model's config file.
        seed: Of all random numbers.
        folder: Its work dir.
        options: Overrides for the model.
        modes: Further overrides of each test, by what tables call it.
        read: Reads the scores; a function of a module, so that another process finds it.
        controlled: The modes that are tested once more with the novel names' rows exchanged.
        grades: Config of the regions that prompts are learned on first, DetPro's way; None for a prompt learned inside.
        grade_options: Overrides for that.
    """

    head: str
    config: str
    seed: int
    folder: str
    options: Mapping[str, Any]
    modes: Mapping[str, Mapping[str, Any]]
    read: Scores
    controlled: tuple[str, ...] = ()
    grades: str | None = None
    grade_options: Mapping[str, Any] | None = None

    def config_for(self, **more: Any) -> Config:
        """The model's config with this run's seed, and further overrides."""
        options = copy.deepcopy({**self.options, **more})  # mmengine takes `_delete_` out of what it is given
        options["randomness.seed"] = self.seed
        if self.grades is not None:
            listed = Path(self.folder) / "grades" / "prompts.json"
            options["model.prompt"] = {"_delete_": True, "type": "subpt_dense.AveragedPrompt", "files": str(listed)}
        return load_config(self.config, options=options, work_dir=self.folder, pretty=False)


def finished(run: DenseRun) -> dict[str, Any] | None:
    """The result in the run's folder, if it is of this very run."""
    file = Path(run.folder) / RESULT
    if not file.is_file():
        return None
    result = json.loads(file.read_text(encoding="utf-8"))
    return result if result["asked"] == _asked(run) else None


def do_run(run: DenseRun, commit: str = "unknown") -> dict[str, Any]:
    """Train, test in every mode, write ``result.json``; a trained model in the folder is tested only.

    Args:
        run: What to do.
        commit: Of the code, kept with the result.

    Returns:
        ``head``, ``seed``, ``scores`` (by mode, what ``run.read`` makes of the tables), ``controls`` (the same of the
        controlled modes), ``seconds``, ``commit``, ``asked``.

    Raises:
        FileNotFoundError, FileExistsError: As :func:`subpt_dense.apis.train`.
    """
    found = finished(run)
    if found is not None:
        return found
    start = time.perf_counter()
    folder = Path(run.folder)
    with quiet():
        if run.grades is not None:
            options = {**(run.grade_options or {}), "randomness.seed": run.seed}
            train_grades(run.grades, work_dir=str(folder / "grades"), options=options)
        checkpoint = _trained(run)
        scores = {mode: _test(run, checkpoint, mode, dict(more)) for mode, more in run.modes.items()}
        controls = {
            mode: _test(run, checkpoint, f"{mode}_shuffled", {**run.modes[mode], **_shuffled(run)})
            for mode in run.controlled
        }
    result = {
        "head": run.head,
        "seed": run.seed,
        "scores": scores,
        "controls": controls,
        "seconds": round(time.perf_counter() - start, 1),
        "commit": commit,
        "asked": _asked(run),
    }
    write_json(folder / RESULT, result)
    return result


def _asked(run: DenseRun) -> dict[str, Any]:
    """What makes a result that of this run, as JSON gives it back."""
    parts = fingerprints(run.config_for())
    more = {"modes": run.modes, "controlled": run.controlled, "grades": run.grades, "of_grades": run.grade_options}
    return json.loads(json.dumps({"parts": parts, **more}))


def _trained(run: DenseRun) -> Path | None:
    """The last checkpoint of a whole run: the one there, or that of a new one; None where nothing is learned."""
    cfg = run.config_for()
    if cfg.get("train_cfg") is None:
        return None
    last = Path(run.folder) / f"iter_{cfg.train_cfg.max_iters}.pth"
    claim_work_dir(cfg)  # refuses what another config left
    if not last.is_file():
        with own_globals():
            train(cfg)
    return last


def _test(run: DenseRun, checkpoint: Path | None, name: str, options: dict[str, Any]) -> dict[str, Any]:
    with own_globals():
        result = test(run.config_for(**options), checkpoint, out=Path(run.folder) / f"{name}.json")
    return run.read(result["tables"])


def _shuffled(run: DenseRun) -> dict[str, Any]:
    """Overrides: every novel name has another novel name's row."""
    cfg = run.config_for()
    head = MODELS.build(complete_prompt(cfg.model.prompt, cfg.model.language))
    data = cfg.test_dataloader.dataset
    split = get_split(data.get("dataset", data).split)  # a wrapper's, where there is one
    head.vocabulary = split.all
    rows = write_control_rows(head, len(split.novel), "shuffled", Path(run.folder) / "shuffled.safetensors", run.seed)
    return {
        "model.prompt": {"_delete_": True, "type": "subpt_dense.RowsPrompt", "file": str(rows)},
        "default_hooks.identity.allow_other": True,
    }
