"""Timing shared by the benchmarks: contestants run in turn in one process, and are compared round by round.

On a machine that others use too, the speed of one minute is not that of the next. Contestants therefore take turns, the
order rotates with every round, and a speed-up is the median over the rounds of the ratio within one round.
"""

import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch


class Timing(NamedTuple):
    """One call, in seconds.

    Attributes:
        cpu: CPU time of the process, all threads together; what other processes do hardly touches it.
        wall: Time on the clock.
    """

    cpu: float
    wall: float


def timed(call: Callable[[], object], settle: float = 0.0) -> Timing:
    """Run once and take the time. On the CPU only: nothing here waits for another device.

    Args:
        call: What to time.
        settle: A call shorter than so many seconds is run again for as long, and the mean of those runs is taken: as in
            training, where the same step has just been run, and its memory is there.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    once = Timing(cpu=time.process_time() - cpu, wall=time.perf_counter() - wall)
    if once.wall >= settle:
        return once
    again = [timed(call) for _ in range(math.ceil(settle / max(once.wall, 1e-3)))]
    return Timing(*(statistics.fmean(values) for values in zip(*again, strict=True)))


def interleaved(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    budget: float | None = None,
    settle: float = 0.0,
) -> dict[str, list[Timing]]:
    """Time contestants in turn; round r begins with contestant r, so that each has every place in the order.

    Args:
        contestants: What to time, by name.
        rounds: Timed rounds.
        warmup: Rounds before them, in which nothing is kept.
        budget: Seconds on the clock, warm-up included, after which no further round begins; one is timed in any case.
        settle: See :func:`timed`.

    Returns:
        For every contestant one timing a round.

    Raises:
        ValueError: If there is no contestant, ``rounds`` is not positive or ``warmup`` is negative.
    """
    if not contestants or rounds < 1 or warmup < 0:
        raise ValueError(
            "interleaved needs at least one contestant, `rounds` >= 1 and `warmup` >= 0. "
            f"Got {len(contestants)}, {rounds} and {warmup}."
        )
    names = list(contestants)
    timings: dict[str, list[Timing]] = {name: [] for name in names}
    begin = time.perf_counter()
    for turn in range(warmup + rounds):
        if budget is not None and turn > warmup and time.perf_counter() - begin > budget:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            timing = timed(contestants[name], settle)
            if turn >= warmup:
                timings[name].append(timing)
    return timings


def paired_ratios(slow: Sequence[Timing], fast: Sequence[Timing], field: str) -> list[float]:
    """``slow / fast`` of every round.

    Args:
        slow: One timing a round.
        fast: Those of the same rounds.
        field: ``"cpu"`` or ``"wall"``.

    Raises:
        ValueError: If the numbers of rounds differ, there is none, or the field is unknown.
    """
    if field not in Timing._fields:
        raise ValueError(f"`field` must be 'cpu' or 'wall'. Got {field!r}.")
    if len(slow) != len(fast) or not slow:
        raise ValueError(f"Ratios need the same rounds of both, at least one. Got {len(slow)} and {len(fast)}.")
    return [getattr(one, field) / getattr(other, field) for one, other in zip(slow, fast, strict=True)]


def paired_ratio(slow: Sequence[Timing], fast: Sequence[Timing], field: str) -> float:
    """The median over the rounds of :func:`paired_ratios`: how many times as long ``slow`` takes."""
    return statistics.median(paired_ratios(slow, fast, field))


def machine() -> str:
    """CPU model, its cores, torch's threads and version."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = models[0] if models else model
    return f"{model}, {os.cpu_count()} cores, torch {torch.__version__} with {torch.get_num_threads()} threads"


def commit() -> str:
    """Short hash of the checked-out commit, with ``-dirty`` when files differ from it; ``unknown`` outside git."""
    try:
        head, changes = _git("rev-parse", "--short", "HEAD"), _git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):  # no git, no repository, or somebody else's
        return "unknown"
    return f"{head}-dirty" if changes else head


def _git(*arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
