"""What the summaries of all dense tasks' studies have in common (n seeds)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from subpt_dense.evaluation.seeds import paired
from subpt_dense.toyworld.dense_run import DenseRun

Outcomes = Sequence[tuple[DenseRun, Mapping[str, Any] | str]]


def results_of(outcomes: Outcomes, seeds: Sequence[int]) -> list[Mapping[str, Any]]:
    """The results of the runs that have one, in the order of the seeds."""
    results = [result for _, result in outcomes if not isinstance(result, str)]
    return sorted(results, key=lambda result: seeds.index(result["seed"]))


def untouched(runs: Sequence[DenseRun]) -> bool:
    """Whether nothing of these runs is there yet: only then the wall time of a study is that of all its work."""
    return not any(Path(run.folder).exists() for run in runs)


def make_summary(
    outcomes: Outcomes,
    seeds: Sequence[int],
    setting: Mapping[str, Any],
    heads: Mapping[str, Any],
    controls: Mapping[str, Any],
    seconds: float | None,
) -> dict[str, Any]:
    """One dict of all that there is.

    Args:
        outcomes: Runs with their result, or with the reason why there is none.
        seeds: All of them, in order.
        setting: Kept as it is.
        heads: The scores by what tables call them, one number a seed, and ``seeds``, those that finished.
        controls: Scores with wrong rows.
        seconds: From the start of the study to here, on the wall; None where it went on with what was :func:`untouched`
            no more.

    Returns:
        ``heads``, ``controls``, ``setting``, ``seeds``, ``failures`` (``head``, ``seed``, ``error``), ``run_seconds``
        (the runs' own, whenever they ran, added up), ``seconds`` and ``commit`` (those of the runs).
    """
    results = results_of(outcomes, seeds)
    return {
        "heads": dict(heads),
        "controls": dict(controls),
        "setting": dict(setting),
        "seeds": list(seeds),
        "failures": [
            {"head": run.head, "seed": run.seed, "error": why} for run, why in outcomes if isinstance(why, str)
        ],
        "run_seconds": round(sum(result["seconds"] for result in results), 1),
        "seconds": None if seconds is None else round(seconds, 1),
        "commit": ", ".join(sorted({result["commit"] for result in results})) or "unknown",
    }


def against(heads: Mapping[str, Any], name: str, reference: str, key: str) -> str:
    """How far one is above another in a score, over the seeds that both have; nothing where there are none."""
    other = heads.get(reference)
    if other is None or name == reference:
        return ""
    mine, theirs = (dict(zip(one["seeds"], one[key], strict=True)) for one in (heads[name], other))
    both = [seed for seed in mine if seed in theirs]
    return str(paired([mine[seed] for seed in both], [theirs[seed] for seed in both])) if both else ""


def closing_notes(summary: Mapping[str, Any], trained_on: str) -> list[str]:
    """Lines for below a table: data, seeds, commit, and what failed."""
    setting = summary["setting"]
    seeds = ", ".join(map(str, summary["seeds"]))
    failed = [f"{one['head']} seed {one['seed']}" for one in summary["failures"]]
    return [
        f"{trained_on}, domain {setting['domain']}, scored on the {setting['scored_on']}; seeds {seeds}; commit "
        f"{summary['commit']}.",
        *([f"Failed: {', '.join(failed)}."] if failed else []),
    ]
