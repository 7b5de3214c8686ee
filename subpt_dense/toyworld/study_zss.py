"""The study of learned words in a segmentor: shifted scenes, few labelled images, several draws of them."""

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from subpt_dense.apis.run_pool import do_all
from subpt_dense.datasets import write_json
from subpt_dense.evaluation.commit import code_commit
from subpt_dense.evaluation.dots_plot import plot_dots
from subpt_dense.toyworld.build import build_world
from subpt_dense.toyworld.dense_run import LEAN, DenseRun, do_run, finished
from subpt_dense.toyworld.folder import write_text
from subpt_dense.toyworld.relocated import relocated
from subpt_dense.toyworld.study_summary import untouched
from subpt_dense.toyworld.study_zss_table import MODE, SCORES, read_scores, study_table, summarise

HEADS = ("template", "coop", "subpt", "nfl", "subpt_nfl", "subpt_nfl_heldout")
_HOME = "data/toy"
#: Scenes that seeds draw their labelled images from.
_POOL = 200
#: The first half of the validation scenes is for choices, the second is reported.
_CHOICES, _REPORTED = 300, 300


def run_zss_study(
    work_dir: str | Path = "work_dirs/study_zss",
    *,
    seeds: Sequence[int] = (1, 2, 3, 4, 5),
    heads: Sequence[str] = HEADS,
    root: str | Path = "data/toy_zss",
    images: int = 48,
    domain: str = "tint",
    choosing: bool = False,
    jobs: int = 2,
    options: Mapping[str, Any] | None = None,
    configs: str | Path = "configs",
    console: Console | None = None,
) -> dict[str, Any]:
    """Make the world; train every head with every seed; test each.

    A seed draws the labelled images, the start of the context and the order of the batches; all heads share its draws.
    Writes ``summary.json``, ``table.md`` and ``scores.png`` under ``work_dir``. It may be stopped at any moment: what
    is finished is not done again.

    Args:
        work_dir: Where everything goes.
        seeds: Of the runs.
        heads: Of :data:`HEADS`.
        root: The world's folder.
        images: Labelled training images, with about three objects each, over 48 classes; at most 200.
        domain: Look of all pictures; the CLIP was trained on another.
        choosing: Score on the scenes that are for choices, not on those that are reported.
        jobs: Processes at a time, with one thread each.
        options: Overrides for every segmentor.
        configs: Folder of the configs.
        console: Where progress goes.

    Returns:
        What ``summary.json`` holds, see :func:`subpt_dense.toyworld.study_zss_table.summarise`. Its ``seconds`` leave
        out a world, and frozen maps in the configs' ``cache_dir``, that were there already.

    Raises:
        ValueError: If ``images`` is not in 1..200.
    """
    if not 1 <= images <= _POOL:
        raise ValueError(f"`images` of run_zss_study must be in [1, {_POOL}]. Got {images}.")
    start = time.perf_counter()
    console, root, work = console or Console(), Path(root), Path(work_dir)
    made = build_world(root, train=_POOL, val=_CHOICES + _REPORTED, train_crops=1, val_crops=1, domain=domain)
    scored = _CHOICES if choosing else -_REPORTED
    runs = [
        _run(head, seed, work, root, Path(configs), images, scored, options or {})
        for seed in seeds  # outer: after a stop, what is there is paired
        for head in heads
    ]
    whole = untouched(runs)
    outcomes = do_all(runs, do_run, finished, _line, jobs=jobs, commit=code_commit(), console=console)
    setting = {
        "domain": domain,
        "training_images": images,
        "scored_on": f"{'first' if choosing else 'last'} {_CHOICES if choosing else _REPORTED} validation scenes",
        "options": {key: str(value) for key, value in (options or {}).items()},
        "world": "made" if made else "found",  # of which `seconds` holds the making, or does not
    }
    seconds = time.perf_counter() - start if whole else None
    summary = summarise(outcomes, list(heads), list(seeds), setting, seconds)
    write_json(work / "summary.json", summary)
    if summary["heads"]:
        write_text(work / "table.md", study_table(summary))
        shown = {SCORES[key]: key for key in ("base", "novel", "h")}
        scores = {head: {name: found[key] for name, key in shown.items()} for head, found in summary["heads"].items()}
        plot_dots(scores, work / "scores.png", label="percent")
    return summary


def _run(
    head: str,
    seed: int,
    work: Path,
    root: Path,
    configs: Path,
    images: int,
    scored: int,
    options: Mapping[str, Any],
) -> DenseRun:
    config = configs / f"zss_toy_{head}.py"
    learned = head != HEADS[0]
    drawn = {"train_dataloader.dataset.dataset.indices": sorted(random.Random(seed).sample(range(_POOL), images))}
    return DenseRun(
        head=head,
        config=str(config),
        seed=seed,
        folder=str(work / head / f"seed{seed}"),
        options={
            **relocated(config, root, home=_HOME),
            **(drawn | LEAN if learned else {}),
            "test_dataloader.dataset.dataset.indices": scored,
            **(options if learned else {}),
        },
        modes={MODE: {}},
        read=read_scores,
        controlled=() if learned else (MODE,),
    )


def _line(run: DenseRun, result: Mapping[str, Any] | str) -> str:
    if isinstance(result, str):
        return f"{run.head} seed {run.seed}: FAILED, {result}"
    found = result["scores"][MODE]
    scores = ", ".join(f"{name} {found[key]:.1f}" for key, name in SCORES.items())
    return f"{run.head} seed {run.seed}: {scores}; {result['seconds']:.0f} s"
