"""One seed of one config: trained, its curve kept, its best epoch chosen by validation (T epochs)."""

import copy
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from subpt_dense.apis.config import load_config
from subpt_dense.apis.own_globals import own_globals, quiet
from subpt_dense.apis.selection import validation_scores
from subpt_dense.apis.work_dir import claim_work_dir, fingerprints
from subpt_dense.datasets import require_files, write_json
from subpt_dense.hooks import TrajectoryHook
from subpt_dense.hooks.host import in_training

RESULT = "result.json"
#: What a curve holds, and what the evaluator's key ends in.
GROUPS = {"base": "base", "novel": "novel", "h": "harmonic"}


class SeedRun(NamedTuple):
    """One run to do.

    Attributes:
        head: What tables call it.
        config: Config file.
        seed: Of all random numbers, and of the few-shot draw.
        folder: Its work dir.
        options: Overrides, ``{"train_cfg.max_epochs": 3}``.
    """

    head: str
    config: str
    seed: int
    folder: str
    options: Mapping[str, Any]


class CurveHook(Hook):
    """Keeps what every validation found, with the pass and the epoch within it.

    Attributes:
        points: ``(phase, epoch, metrics)``.
    """

    def __init__(self) -> None:
        self.points: list[tuple[str, int, dict[str, float]]] = []

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep it."""
        phase, epoch = "train", 0
        if in_training(runner):
            phase = runner.message_hub.get_info("phase", "train")
            epoch = runner.epoch - (_explored(runner) if phase == "train" else 0)
        self.points.append((phase, epoch, dict(metrics or {})))

    def curve(self, phase: str) -> dict[str, list[Any]]:
        """``epoch``, and a list of scores for each of :data:`GROUPS`."""
        points = [(epoch, metrics) for at, epoch, metrics in self.points if at == phase]
        return {
            "epoch": [epoch for epoch, _ in points],
            **{group: [_score(metrics, suffix) for _, metrics in points] for group, suffix in GROUPS.items()},
        }


def seeded_config(run: SeedRun) -> Config:
    """The run's config: ``randomness.seed``, and ``draw`` of the ``ImageSet`` trained or selected on, are the seed."""
    options = copy.deepcopy(dict(run.options))  # mmengine takes `_delete_` out of what it is given
    cfg = load_config(run.config, options=options, work_dir=run.folder, pretty=False)
    cfg.randomness = {**cfg.get("randomness", {}), "seed": run.seed}
    for data in _image_sets([cfg.get("train_dataloader"), cfg.get("selection_dataset")]):
        data["draw"] = run.seed
    return cfg


def finished(run: SeedRun) -> dict[str, Any] | None:
    """The result in the run's folder, if it is of this very config."""
    file = Path(run.folder) / RESULT
    if not file.is_file():
        return None
    result = json.loads(file.read_text())
    return result if result["parts"] == fingerprints(seeded_config(run)) else None


def do_run(run: SeedRun, commit: str = "unknown") -> dict[str, Any]:
    """Train (a head that learns nothing: evaluate), choose an epoch, write ``result.json``; or find it written.

    Args:
        run: What to do. The config's ``val_dataloader`` gives the scores of every epoch. Its ``selection_dataset``, if
            it has one, gives the base classes' validation images by which an epoch is chosen, and nothing else is.
        commit: Of the code, kept with the result.

    Returns:
        ``head``, ``seed``, ``last`` (``base``, ``novel``, ``h``), ``best`` (those and ``epoch``; None without
        ``selection_dataset``), ``curve`` and ``explored`` (see :meth:`CurveHook.curve`), ``selection`` (the
        validation accuracy at each of the curve's epochs), ``seconds``, ``commit``, ``parts`` (the config's
        fingerprints).

    Raises:
        FileNotFoundError, FileExistsError: As :func:`subpt_dense.apis.train`.
        ValueError: If the evaluator gives no base and novel scores.
    """
    found = finished(run)
    if found is not None:
        return found
    start, cfg = time.perf_counter(), seeded_config(run)
    parts = fingerprints(cfg)
    require_files(cfg)
    lacking = [data for data in _image_sets(cfg.val_dataloader) if data.get("group", "all") != "all"]
    if lacking or any(data.get("split") == "whole" for data in _image_sets(cfg.val_dataloader)):
        raise ValueError(
            f"`val_dataloader` of {Path(run.config).name} must hold base and novel classes, group='all' of a split: a "
            "table over seeds has both. Got one group alone."
        )
    claim_work_dir(cfg)
    curve = CurveHook()
    cfg.experiment_name = f"{run.head}-{run.seed}-{os.getpid()}-{time.time_ns()}"  # else a second run shares its logger
    with quiet(), own_globals():
        runner = Runner.from_cfg(cfg)
        runner.register_hook(curve)
        trajectory = None
        if cfg.get("train_cfg") is None:
            runner.val()
        else:
            recorders = [hook for hook in runner.hooks if isinstance(hook, TrajectoryHook)] or [TrajectoryHook()]
            if recorders[0] not in runner.hooks:
                runner.register_hook(recorders[0])
            runner.train()
            trajectory = recorders[0].trajectory
        trained = curve.curve("train")
        chosen = None
        if cfg.get("selection_dataset"):
            epochs = [epoch + _explored(runner) for epoch in trained["epoch"]]
            chosen = validation_scores(runner.model, cfg.selection_dataset, trajectory, epochs)
    result = {
        "head": run.head,
        "seed": run.seed,
        "last": {group: trained[group][-1] for group in GROUPS},
        "best": None,
        "curve": trained,
        "explored": curve.curve("explore"),
        "selection": chosen,
        "seconds": round(time.perf_counter() - start, 2),
        "commit": commit,
        "parts": parts,
    }
    if chosen is not None:
        at = chosen.index(max(chosen))  # the first of equals
        result["best"] = {"epoch": trained["epoch"][at], **{group: trained[group][at] for group in GROUPS}}
    write_json(Path(run.folder) / RESULT, result)
    return result


def _explored(runner: Runner) -> int:
    """Epochs before the training pass."""
    return getattr(runner._train_loop, "explored", 0)


def _score(metrics: Mapping[str, float], suffix: str) -> float:
    found = [value for key, value in metrics.items() if key.split("/")[-1] == suffix]
    if not found:
        raise ValueError(
            "Runs over seeds need an evaluator with base, novel and harmonic scores, as subpt_dense.GroupAccuracy. "
            f"Got {', '.join(metrics) or 'no scores'}."
        )
    return float(found[0])


def _image_sets(node: Any) -> Iterator[Any]:
    """Every ``ImageSet`` config in a data loader's, inside wrappers too."""
    if isinstance(node, Mapping):
        if str(node.get("type", "")).split(".")[-1] == "ImageSet":
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for inner in node:
            yield from _image_sets(inner)
