"""The figures of text_encoding.py: differences, operations and bytes, times (N names in a vocabulary)."""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from contestants import LINEAR, Encode, Step, chunks, full_length_steps, part_of, random_context, short_steps
from counting import MIB, count, peak_bytes, storages_alive
from measure import Timing, interleaved, paired_ratio, paired_ratios

from subpt_dense.subspace import fit_basis
from subpt_dense.text import TextTower

_EXACT_CHUNK = 24  # tokens a chunk where numbers are compared, so that there are several
_SNAPSHOTS, _RANK = 50, 10


class Cost(NamedTuple):
    """Of one class, or of all: floating-point operations, bytes kept for backward, most bytes in use at once.

    ``peak`` takes a run of its own, and is NaN where there was none.
    """

    flops: float
    saved: float
    peak: float

    def times(self, classes: float) -> "Cost":
        """That of so many times the classes."""
        return Cost(self.flops * classes, self.saved * classes, self.peak * classes)


def compare(towers: Mapping[str, TextTower], names: Sequence[str]) -> dict[str, float]:
    """Largest difference to ``reference`` of a number in the rows, and of the gradient relative to its norm.

    ``shared_prefix`` and ``chunked`` are both compared; each figure is that of the worse one.

    Args:
        towers: One tower in several precisions, by name.
        names: Classes to compare.
    """
    found: dict[str, float] = {"compared": len(names)}
    for label, tower in towers.items():
        context = random_context(tower)
        rows, gradient = full_length_steps(tower, context, names)["reference"]()
        steps = short_steps(tower, context, names, names, chunk=_EXACT_CHUNK)
        others = [steps[way]() for way in ("shared_prefix", "chunked")]
        found[f"{label}_feature_error"] = max((other - rows).abs().max().item() for other, _ in others)
        found[f"{label}_gradient_error"] = max(
            ((other - gradient).norm() / gradient.norm()).item() for _, other in others
        )
    return found


def count_steps(steps: Mapping[str, Step], peaks: bool = True) -> dict[str, Cost]:
    """What steps cost that have been run before, checks and constants being there."""
    before = storages_alive()
    return {way: Cost(*count(step, before), peak_bytes(step) if peaks else math.nan) for way, step in steps.items()}


def count_ways(tower: TextTower, names: Sequence[str], ways: Collection[str], peaks: bool = True) -> dict[str, Cost]:
    """What every way costs for all N names.

    The linear ways are counted on one class (the longest, which says where ``truncated`` cuts). What ``chunked`` saves
    is the most that is kept at any one time: what lies outside the chunks, and what one chunk keeps, the last one until
    backward has passed it, and then the others in turn (counted on their classes alone, from a prefix that is there).

    Args:
        tower: Any tower.
        names: The vocabulary.
        ways: What is counted.
        peaks: Whether ``peak`` is wanted, and the operations of ``chunked``: both take time.
    """
    context, longest = random_context(tower), part_of(tower, names, 1)
    one = full_length_steps(tower, context, longest) | short_steps(tower, context, longest, longest)
    whole = short_steps(tower, context, names, longest)
    steps = {way: (one if way in LINEAR else whole)[way] for way in ways}
    chunked = steps.pop("chunked", None)
    for way, step in steps.items():
        if way not in LINEAR:
            warm(step)
    costs = count_steps(steps, peaks)
    costs |= {way: costs[way].times(len(names)) for way in LINEAR if way in costs}
    if chunked is not None:
        if peaks:
            warm(chunked)
            cost = count_steps({"chunked": chunked})["chunked"]
        else:
            cost = Cost(math.nan, _saved_by(chunked.encode, context), math.nan)
        costs["chunked"] = cost._replace(saved=cost.saved + _saved_in_backward(tower, context, names))
    return costs


def extend(shallow: Mapping[str, Cost], deeper: Mapping[str, Cost], layers: int) -> dict[str, Cost]:
    """Costs of a tower that has so many layers more than the deeper one: every layer costs the same."""
    return {
        way: Cost(*(b + layers * (b - a) for a, b in zip(shallow[way], deeper[way], strict=True))) for way in shallow
    }


def tell_costs(costs: Mapping[str, Cost]) -> dict[str, Any]:
    """Costs as ``flops``, ``saved_mib`` and ``peak_mib`` by way.

    ``flop_limit`` is the ratio of operations of ``sdpa`` and ``shared_prefix``.
    """
    return {
        "flops": {way: cost.flops for way, cost in costs.items() if not math.isnan(cost.flops)},
        "flop_limit": costs["sdpa"].flops / costs["shared_prefix"].flops,
        "saved_mib": {way: cost.saved / MIB for way, cost in costs.items()},
        "peak_mib": {way: cost.peak / MIB for way, cost in costs.items() if not math.isnan(cost.peak)},
    }


def _saved_in_backward(tower: TextTower, context: torch.Tensor, names: Sequence[str]) -> int:
    """What the first chunk, computed again, keeps more than the last one, whose graph was kept and is gone by then."""
    saved = []
    for encode in chunks(tower, context, names):
        encode(context)
        saved.append(_saved_by(encode, context))
    return max(0, saved[0] - saved[1]) if saved else 0


def _saved_by(encode: Encode, context: torch.Tensor) -> int:
    """What a forward pass keeps."""
    graph: list[torch.Tensor] = []  # it must outlive the count
    return count(lambda: graph.append(encode(context)), storages_alive()).saved


def warm(step: Step) -> None:
    """Checks and constants, which come with the first use of a vocabulary."""
    step.encode(step.context)


def time_ways(
    full_length: Mapping[str, Step],
    short: Mapping[int, Mapping[str, Step]],
    rounds: int,
    budget: float,
    settle: float = 0.0,
) -> list[dict[str, Any]]:
    """Milliseconds of every way and its speed-ups over ``reference``, at torch's number of threads: a case for each N.

    The steps of all vocabularies take turns with those of 77 tokens, whose times are scaled to each N.

    Args:
        full_length: From ``full_length_steps``.
        short: From ``short_steps``, by N.
        rounds: Timed rounds at most.
        budget: Seconds after which no further round begins.
        settle: Shorter steps are run several times in a row, see ``measure.timed``.
    """
    everything = dict(full_length)
    for classes, steps in short.items():
        everything |= {f"{way} {classes}": step for way, step in steps.items()}
    raw = interleaved(everything, rounds, warmup=0, budget=budget, settle=settle)
    cases = []
    for classes, steps in short.items():
        times = {}
        for way in (*full_length, *steps):
            name = way if way in full_length else f"{way} {classes}"
            scale = classes / len(everything[name].direction) if way in LINEAR else 1.0
            times[way] = [Timing(cpu=scale * one.cpu, wall=scale * one.wall) for one in raw[name]]
        part = len(full_length["reference"].direction)
        cases.append({"classes": classes, "subset": part, "rounds": len(raw["reference"]), **_ratios(times)})
    return cases


def _ratios(times: Mapping[str, Sequence[Timing]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in Timing._fields:
        ratios = {way: paired_ratios(times["reference"], times[way], field) for way in times if way != "reference"}
        found[f"{field}_ms"] = {way: 1e3 * statistics.median(getattr(t, field) for t in times[way]) for way in times}
        found[f"{field}_speedup"] = {way: statistics.median(values) for way, values in ratios.items()}
        found[f"{field}_range"] = {way: [min(values), max(values)] for way, values in ratios.items()}
        for way in {"sdpa", "fused"} & set(times):
            found[f"{field}_speedup_over_{way}"] = paired_ratio(times[way], times["shared_prefix"], field)
        if "chunked" in times:
            found[f"{field}_chunked_over_whole"] = paired_ratio(times["chunked"], times["shared_prefix"], field)
    return found


def time_subpt(tower: TextTower) -> dict[str, float]:
    """Milliseconds on the clock of what SubPT adds: one projection a step, and one basis fit a training."""
    generator = torch.Generator().manual_seed(2)
    length = random_context(tower).numel()
    snapshots = torch.randn(_SNAPSHOTS, length, generator=generator)
    gradient = torch.randn(length, generator=generator)
    subspace = fit_basis(snapshots, _RANK)
    times = interleaved(
        {"keep_ms": lambda: subspace.keep(gradient), "fit_ms": lambda: fit_basis(snapshots, _RANK)},
        rounds=50,
        budget=0.5,
    )
    return {name: 1e3 * statistics.median(t.wall for t in taken) for name, taken in times.items()}
