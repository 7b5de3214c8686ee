"""How much faster than 77 tokens a class the text side of a training step is, with less memory and the same numbers.

    python tools/benchmarks/text_encoding.py [--quick] [--json FILE] [--plot FILE.png]

The text tower of ViT-B/32 with random weights learns 16 context tokens for COCO-OVD's 65, COCO-Stuff's 171 and LVIS's
1203 names. A step is a forward pass and a backward pass of a fixed linear functional of the rows to the context:

- ``reference``: 77 tokens, open_clip's own modules, as in CoOp; all speed-ups are over it
- ``sdpa``: 77 tokens, the same blocks with fused causal attention
- ``fused``: ``sdpa`` with QuickGELU as a fused silu too: the best that 77 tokens can do
- ``checkpointed``: ``reference``, every block computed again in backward
- ``truncated``: cut at the longest end-of-text
- ``shared_prefix``: this project's
- ``chunked``: the same with the classes computed again in backward, 1024 tokens at a time

The first five take time in proportion to the number of classes: they are timed on a part of them, and scaled. README.md
says how to read the figures.
"""

import argparse
import gc
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from contestants import (
    VOCABULARIES,
    WAYS,
    Step,
    build_tower,
    class_names,
    full_length_steps,
    part_of,
    random_context,
    short_steps,
)
from figures import compare, count_ways, extend, tell_costs, time_subpt, time_ways, warm
from measure import Timing, commit, machine
from mmengine.logging import MMLogger
from report import plot, print_report

from subpt_dense.datasets import write_json
from subpt_dense.text import TextTower

BEGIN = time.perf_counter()


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        ways: Those that are timed, and counted; ``chunked`` is counted in any case.
        part: Classes on which the linear ways are timed.
        compared: Classes of all vocabularies together, half of them the longest, on which numbers are compared.
        rounds: Timed rounds at most, for each number of threads.
        budget: Seconds, for each number of threads, after which no further round begins.
        settle: Shorter steps are run several times in a row, see ``measure.timed``.
        warmed: Largest vocabulary that is encoded once before it is timed.
        peaks: Whether the most memory in use is measured. Without it, ``chunked`` has no operations counted either.
        counted: Layers of the two towers on which operations and bytes are counted, and extended to all layers from
            there; ``None`` counts on the tower itself.
        deadline: Seconds of the whole run after which the largest vocabulary is not timed with more threads.
    """

    ways: tuple[str, ...]
    part: int
    compared: int
    rounds: int
    budget: float
    settle: float
    warmed: int
    peaks: bool
    counted: tuple[int, int] | None
    deadline: float = float("inf")


FULL = Plan(
    WAYS, part=65, compared=48, rounds=7, budget=480, settle=2.0, warmed=max(VOCABULARIES), peaks=True, counted=None
)
QUICK = Plan(
    ("reference", "sdpa", "truncated", "shared_prefix"),
    part=4,
    compared=1,
    rounds=1,
    settle=0.25,
    warmed=171,
    budget=0,
    peaks=False,
    counted=(2, 3),
    deadline=30,
)


def parse_args() -> argparse.Namespace:
    """Flags, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute: fewer rounds, classes and ways")
    parser.add_argument("--classes", nargs="+", type=int, choices=VOCABULARIES, default=VOCABULARIES)
    parser.add_argument("--threads", nargs="+", type=_positive, default=(1, 2), metavar="N", help="default: 1 2")
    parser.add_argument("--width", type=_width, default=512, help="of the tower, in heads of 64 (default: %(default)s)")
    parser.add_argument("--layers", type=_positive, default=12, help="of the tower (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=_picture, metavar="FILE.png", help="draw speed-ups and memory there")
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer. Got {text!r}.")
    return int(text)


def _width(text: str) -> int:
    if not text.isdecimal() or int(text) < 64 or int(text) % 64:
        raise argparse.ArgumentTypeError(f"must be a multiple of 64. Got {text!r}.")
    return int(text)


def _picture(text: str) -> Path:
    if Path(text).suffix != ".png":
        raise argparse.ArgumentTypeError(f"must end in .png. Got {text!r}.")
    return Path(text)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All that the flags ask for: counts once, with the fewest threads, then times with every number of threads."""
    plan = QUICK if args.quick else FULL
    vocabularies = {classes: class_names(classes) for classes in args.classes}
    torch.set_num_threads(min(args.threads))
    gc.freeze()  # counting looks through all objects for tensors: what the imports made has none that matter
    tower = build_tower(width=args.width, layers=args.layers)
    context = random_context(tower)
    some = part_of(tower, next(iter(vocabularies.values())), plan.part)
    full_length = _only(plan.ways, full_length_steps(tower, context, some))
    short = {
        classes: _only(plan.ways, short_steps(tower, context, names, part_of(tower, names, plan.part)))
        for classes, names in vocabularies.items()
    }
    counts = count_all(tower, vocabularies, plan, args.layers)
    cases, subpt = time_all(tower, full_length, short, args.threads, plan)
    for case in cases:
        case |= counts[case["classes"]]
        for field in Timing._fields:
            case[f"{field}_flop_share"] = case[f"{field}_speedup_over_sdpa"] / case["flop_limit"]
    return {
        "cases": sorted(cases, key=lambda case: (case["classes"], case["threads"])),
        "subpt": subpt,
        "tower": f"text tower of width {args.width} and {args.layers} layers",
        "device": machine(),
        "commit": commit(),
    }


def _only(ways: Sequence[str], steps: Mapping[str, Step]) -> dict[str, Step]:
    return {way: step for way, step in steps.items() if way in ways}


def count_all(
    tower: TextTower, vocabularies: Mapping[int, Sequence[str]], plan: Plan, layers: int
) -> dict[int, dict[str, Any]]:
    """Differences, operations and memory of every vocabulary."""
    compared = part_of(tower, [name for names in vocabularies.values() for name in names], plan.compared)
    exactness = compare({"fp64": tower.copy_to(torch.device("cpu"), torch.float64), "fp32": tower}, compared)
    towers = [build_tower(width=tower.width, layers=few) for few in plan.counted or ()] or [tower]
    ways = [way for way in WAYS if way in (*plan.ways, "chunked")]
    found = {}
    for classes, names in vocabularies.items():
        costs = [count_ways(each, names, ways, plan.peaks) for each in towers]
        whole = extend(costs[0], costs[1], layers - plan.counted[1]) if plan.counted else costs[0]
        found[classes] = {**exactness, **tell_costs(whole)}
        _tell(f"{classes} classes: counted")
    return found


def time_all(
    tower: TextTower,
    full_length: Mapping[str, Step],
    short: Mapping[int, Mapping[str, Step]],
    threads: Sequence[int],
    plan: Plan,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Times with every number of threads: a case for each vocabulary, and what SubPT adds."""
    cases, subpt = list[dict[str, Any]](), list[dict[str, Any]]()
    for classes, steps in short.items():
        if classes <= plan.warmed:
            warm(steps["shared_prefix"])
    for number in threads:
        if cases and len(short) > 1 and time.perf_counter() - BEGIN > plan.deadline:
            _tell(f"{max(short)} classes, threads: {number}: left out, it would take too long")
            short = {classes: steps for classes, steps in short.items() if classes < max(short)}
        torch.set_num_threads(number)
        subpt.append({"threads": number, **time_subpt(tower)})
        timed = time_ways(full_length, short, plan.rounds, plan.budget, plan.settle)
        cases += [{"threads": number, **case} for case in timed]
        _tell(f"threads: {number}: timed, rounds: {cases[-1]['rounds']}")
    return cases, subpt


def _tell(text: str) -> None:
    print(f"{time.perf_counter() - BEGIN:4.0f} s  {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Parse, measure, print, write."""
    args = parse_args()
    MMLogger.get_current_instance().setLevel(logging.WARNING)  # which encoder was asked for is no news here
    results = run(args)
    print_report(results)
    if args.json:
        write_json(args.json, results, indent=2)
    if args.plot:
        plot(results, args.plot)


if __name__ == "__main__":
    main()
