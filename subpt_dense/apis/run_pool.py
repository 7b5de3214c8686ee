"""Many runs, several processes at a time with one thread each; what is finished is not done again."""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Run = TypeVar("Run")
Result = dict[str, Any]


def do_all(
    runs: Sequence[Run],
    do: Callable[[Run, str], Result],
    finished: Callable[[Run], Result | None],
    tell: Callable[[Run, Result | str], str],
    *,
    jobs: int,
    commit: str,
    console: Console,
) -> list[tuple[Run, Result | str]]:
    """Every run with its result, or with the reason why there is none, in the order in which they ended.

    Args:
        runs: What to do; picklable.
        do: Does one, given the commit of the code; a function of a module, so that another process finds it.
        finished: The result of a run that needs not be done again, or None.
        tell: One line about an ended run.
        jobs: Processes at a time; with 1, this process does it, run by run.
        commit: Handed to ``do``.
        console: Where progress and lines go.
    """
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    outcomes: list[tuple[Run, Result | str]] = []
    with Progress(TextColumn("{task.description}"), *columns, console=console) as progress:
        task = progress.add_task("runs", total=len(runs))
        for run, result in _outcomes(runs, do, finished, jobs, commit):
            outcomes.append((run, result))
            console.print(tell(run, result), highlight=False, markup=False, soft_wrap=True)
            progress.advance(task)
    return outcomes


def _outcomes(
    runs: Sequence[Run],
    do: Callable[[Run, str], Result],
    finished: Callable[[Run], Result | None],
    jobs: int,
    commit: str,
) -> Iterator[tuple[Run, Result | str]]:
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
                yield run, _attempt(do, run, commit)
        finally:
            torch.set_num_threads(threads)
        return
    lost: list[Run] = []
    for run, result in _in_pool(todo, do, jobs, commit):
        if result is None:
            lost.append(run)
        else:
            yield run, result
    for run in lost:
        for _, result in _in_pool([run], do, 1, commit):
            yield run, result or "The process died without a word: was there enough memory?"


def _in_pool(
    runs: Sequence[Run], do: Callable[[Run, str], Result], jobs: int, commit: str
) -> Iterator[tuple[Run, Any]]:
    """Outcomes; None where a process died."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
        futures = {pool.submit(_attempt, do, run, commit): run for run in runs}
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
