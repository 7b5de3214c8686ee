"""Several configs with several seeds, each run in a process with one thread, and what they come to together."""

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

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
    outcomes = _do_all(runs, jobs, code_commit(), console or Console())
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


def _do_all(runs: Sequence[SeedRun], jobs: int, commit: str, console: Console) -> list[_Outcome]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    outcomes: list[_Outcome] = []
    with Progress(TextColumn("{task.description}"), *columns, console=console) as progress:
        task = progress.add_task("runs", total=len(runs))
        for run, result in _outcomes(runs, jobs, commit):
            outcomes.append((run, result))
            console.print(_line(run, result), highlight=False, markup=False, soft_wrap=True)
            progress.advance(task)
    return outcomes


def _outcomes(runs: Sequence[SeedRun], jobs: int, commit: str) -> Iterator[_Outcome]:
    """As they come. A process that dies (out of memory, say) takes the others of its pool along: those run again."""
    todo = []
    for run in runs:
        done = _attempt(finished, run)
        if done is None:
            todo.append(run)
        else:
            yield run, done
    if jobs == 1 or len(todo) < 2:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for run in todo:
                yield run, _attempt(do_run, run, commit)
        finally:
            torch.set_num_threads(threads)
        return
    lost: list[SeedRun] = []
    for run, result in _in_pool(todo, jobs, commit):
        if result is None:
            lost.append(run)
        else:
            yield run, result
    for run in lost:
        for _, result in _in_pool([run], 1, commit):
            yield run, result or "The process died without a word: was there enough memory?"


def _in_pool(runs: Sequence[SeedRun], jobs: int, commit: str) -> Iterator[tuple[SeedRun, Any]]:
    """Outcomes; None where a process died."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
        futures = {pool.submit(_attempt, do_run, run, commit): run for run in runs}
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BrokenProcessPool:
                    yield futures[future], None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _attempt(call: Callable[..., Any], *arguments: Any) -> Any:
    """The result, or the reason why there is none; other runs go on."""
    try:
        return call(*arguments)
    except Exception as error:  # whatever it is, it is reported
        frames = traceback.extract_tb(error.__traceback__)
        return f"{type(error).__name__}: {error} ({Path(frames[-1].filename).name}:{frames[-1].lineno})"


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def _line(run: SeedRun, result: Mapping[str, Any] | str) -> str:
    if isinstance(result, str):
        return f"{run.head} seed {run.seed}: FAILED, {result}"
    scores = ", ".join(f"{group} {result['last'][group]:.1f}" for group in GROUPS)
    best = f" (best by validation: epoch {result['best']['epoch']})" if result["best"] else ""
    return f"{run.head} seed {run.seed}: {scores}{best}, {result['seconds']:.1f} s"
