"""Several configs with several seeds, each run in a process with one thread, and what they come to together."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from subpt_dense.apis.run_pool import do_all
from subpt_dense.apis.seed_run import GROUPS, SeedRun, do_run, finished
from subpt_dense.datasets import write_json
from subpt_dense.evaluation.commit import code_commit
from subpt_dense.evaluation.curves_plot import plot_bands
from subpt_dense.evaluation.seed_table import markdown_table

_Outcome = tuple[SeedRun, dict[str, Any] | str]


def run_seeds(
    configs: Mapping[str, str | Path],
    seeds: Sequence[int],
    work_dir: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    head_options: Mapping[str, Mapping[str, Any]] | None = None,
    jobs: int = 1,
    setting: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run every config with every seed, and write what they come to together.

    Seed s sets ``randomness.seed`` and the few-shot draw of the training data, for all configs alike: results are
    paired. Each run has the folder ``<work_dir>/<head>/seed<s>``; one that holds the result of the same config is not
    run again. Under ``work_dir`` there are then ``summary.json``, ``table.md`` and ``curves.png``.

    Args:
        configs: Config files, by what tables call them.
        seeds: Which seeds.
        work_dir: Where everything goes.
        options: Overrides for every config.
        head_options: Further ones, by head.
        jobs: Processes at a time, with one thread each; with 1, this process does it, run by run.
        setting: Facts about the experiment, kept in the summary.
        console: Where progress goes; None for a new one.

    Returns:
        What ``summary.json`` holds, see :func:`summarise`. Failed runs are listed under ``failures``.

    Raises:
        ValueError: If there is no config or seed, one is repeated, or ``jobs`` is not positive.
    """
    if not configs or not seeds or len(set(seeds)) < len(seeds) or jobs < 1:
        raise ValueError(
            "run_seeds needs at least one config, different seeds and `jobs` >= 1. "
            f"Got {len(configs)} configs, seeds {list(seeds)} and {jobs} jobs."
        )
    start, root, more = time.perf_counter(), Path(work_dir), head_options or {}
    runs = [
        SeedRun(head, str(config), seed, str(root / head / f"seed{seed}"), {**(options or {}), **more.get(head, {})})
        for seed in seeds  # outer: after a stop, what is there is paired
        for head, config in configs.items()
    ]
    outcomes = do_all(runs, do_run, finished, _line, jobs=jobs, commit=code_commit(), console=console or Console())
    summary = summarise(outcomes, list(configs), list(seeds), setting or {})
    summary["seconds"] = round(time.perf_counter() - start, 1)
    write_json(root / "summary.json", summary)
    if summary["heads"]:
        (root / "table.md").write_text(markdown_table(summary), encoding="utf-8")
        plot_bands({head: found["curves"] for head, found in summary["heads"].items()}, root / "curves.png")
    return summary


def summarise(
    outcomes: Sequence[_Outcome], heads: Sequence[str], seeds: Sequence[int], setting: Mapping[str, Any]
) -> dict[str, Any]:
    """One dict of all results.

    Args:
        outcomes: Runs with their result, or with the reason why there is none.
        heads: All names, in order.
        seeds: All seeds, in order.
        setting: Kept as it is.

    Returns:
        ``heads``: by name ``base``, ``novel`` and ``h``, one number a seed at the last epoch; ``best``, the same at the
        epoch that validation chose, and ``epoch`` (None where nothing was chosen); ``curves`` (``epoch``, and a list of
        scores a seed); ``seeds``, those that finished, in order. A head of which none did is left out. Then
        ``setting``, ``seeds``, ``failures`` (``head``, ``seed``, ``error``), ``run_seconds`` (the runs' own, whenever
        they ran) and ``commit`` (those of the runs).
    """
    results = [result for _, result in outcomes if not isinstance(result, str)]
    failures = [{"head": run.head, "seed": run.seed, "error": why} for run, why in outcomes if isinstance(why, str)]
    found: dict[str, Any] = {}
    for head in heads:
        mine = sorted((r for r in results if r["head"] == head), key=lambda result: seeds.index(result["seed"]))
        if mine:
            found[head] = _summarise_head(mine)
    return {
        "heads": found,
        "setting": dict(setting),
        "seeds": list(seeds),
        "failures": failures,
        "run_seconds": round(sum(result["seconds"] for result in results), 1),
        "commit": ", ".join(sorted({result["commit"] for result in results})) or "unknown",
    }


def _summarise_head(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    chosen = all(result["best"] for result in results)
    return {
        **{group: [result["last"][group] for result in results] for group in GROUPS},
        "best": {key: [result["best"][key] for result in results] for key in (*GROUPS, "epoch")} if chosen else None,
        "curves": {
            "epoch": results[0]["curve"]["epoch"],
            **{group: [result["curve"][group] for result in results] for group in GROUPS},
        },
        "seeds": [result["seed"] for result in results],
    }


def _line(run: SeedRun, result: Mapping[str, Any] | str) -> str:
    if isinstance(result, str):
        return f"{run.head} seed {run.seed}: FAILED, {result}"
    scores = ", ".join(f"{group} {result['last'][group]:.1f}" for group in GROUPS)
    best = f" (best by validation: epoch {result['best']['epoch']})" if result["best"] else ""
    return f"{run.head} seed {run.seed}: {scores}{best}, {result['seconds']:.1f} s"
