"""What the study expects of the methods, stated beforehand, and whether its figures bear it out."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from subpt_dense.evaluation.seeds import Paired, paired

EARLY = 3  # the epoch after which novel accuracy is said to fall


class Outcome(NamedTuple):
    """One hypothesis.

    Attributes:
        name: ``H1`` to ``H4``.
        claim: What it says.
        holds: Whether the figures bear it out; None where a head or a seed that it needs is missing.
        figures: What was found, in words.
    """

    name: str
    claim: str
    holds: bool | None
    figures: str


def check_hypotheses(summary: Mapping[str, Any]) -> list[Outcome]:
    """Four claims of arXiv 2211.02219 on the toy world, decided by paired differences over seeds.

    A mean difference counts as above zero when it is more than two standard errors above it: with ten seeds that is
    what chance alone gives in about one of twenty-five cases. One seed decides nothing.

    Args:
        summary: What :func:`subpt_dense.apis.run_seeds` gives, for ``coop``, ``nfl``, ``subpt`` and ``subpt_nfl``.
    """
    heads = summary["heads"]
    return [_h1(heads), _h2(heads), _h3(heads), _h4(heads)]


def above(change: Paired) -> bool:
    """More than two standard errors above zero."""
    return change.error is not None and change.difference > 2 * change.error


def _h1(heads: Mapping[str, Any]) -> Outcome:
    claim = f"CoOp's novel accuracy falls after epoch {EARLY}"
    curves = heads.get("coop", {}).get("curves")
    if curves is None or EARLY not in curves["epoch"] or curves["epoch"][-1] <= EARLY:
        return Outcome("H1", claim, None, "no CoOp run with these epochs")
    early = curves["epoch"].index(EARLY)
    change = paired([row[early] for row in curves["novel"]], [row[-1] for row in curves["novel"]])
    return Outcome("H1", claim, above(change), f"novel at epoch {EARLY} minus novel at the end: {change}")


def _h2(heads: Mapping[str, Any]) -> Outcome:
    claim = "NFL is above CoOp on novel"
    change = _between(heads, "nfl", "coop", "novel")
    if change is None:
        return Outcome("H2", claim, None, "no paired runs of NFL and CoOp")
    return Outcome("H2", claim, above(change), f"novel, NFL minus CoOp: {change}")


def _h3(heads: Mapping[str, Any], *, gain: float = 1.5, share: float = 0.8) -> Outcome:
    claim = f"SubPT+NFL is above CoOp on H by at least {gain} and in at least {share:.0%} of the seeds"
    change = _between(heads, "subpt_nfl", "coop", "h")
    if change is None:
        return Outcome("H3", claim, None, "no paired runs of SubPT+NFL and CoOp")
    holds = change.difference >= gain and change.wins >= share * change.seeds
    return Outcome("H3", claim, holds, f"H, SubPT+NFL minus CoOp: {change}")


def _h4(heads: Mapping[str, Any]) -> Outcome:
    claim = "SubPT keeps base accuracy from falling: it ends less far below its own peak than CoOp does"
    both = _common(heads, "subpt", "coop")
    if both is None:
        return Outcome("H4", claim, None, "no paired runs of SubPT and CoOp")
    falls = [[max(row) - row[-1] for row in rows] for rows in _rows(heads, ("subpt", "coop"), both)]
    change = paired(falls[1], falls[0])
    means = [sum(fall) / len(fall) for fall in falls]
    figures = f"base, peak minus end: SubPT {means[0]:.1f}, CoOp {means[1]:.1f}; CoOp's fall minus SubPT's: {change}"
    return Outcome("H4", claim, above(change), figures)


def _between(heads: Mapping[str, Any], first: str, second: str, group: str) -> Paired | None:
    """First minus second at the last epoch, over the seeds that both finished."""
    both = _common(heads, first, second)
    if both is None:
        return None
    scores = [dict(zip(heads[head]["seeds"], heads[head][group], strict=True)) for head in (first, second)]
    return paired(*([found[seed] for seed in both] for found in scores))


def _rows(heads: Mapping[str, Any], names: Sequence[str], seeds: Sequence[int]) -> list[list[list[float]]]:
    """The base curves of these heads and seeds."""
    found = [dict(zip(heads[name]["seeds"], heads[name]["curves"]["base"], strict=True)) for name in names]
    return [[rows[seed] for seed in seeds] for rows in found]


def _common(heads: Mapping[str, Any], first: str, second: str) -> list[int] | None:
    if first not in heads or second not in heads:
        return None
    return [seed for seed in heads[first]["seeds"] if seed in heads[second]["seeds"]] or None
