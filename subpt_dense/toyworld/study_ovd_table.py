"""What the runs of the detection study come to: one summary, one table (n seeds)."""

from collections.abc import Mapping, Sequence
from typing import Any

from subpt_dense.evaluation.scores import harmonic
from subpt_dense.evaluation.seeds import paired, spread
from subpt_dense.toyworld.dense_run import DenseRun

GROUPS = ("base", "novel", "all")
_REFERENCE = "coop"


def read_scores(tables: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """AP50 in percent of each of :data:`GROUPS`, by ``bbox`` and ``segm``."""
    return {
        table["details"]["ap_of"]: {group: round(table["groups"][group]["ap50"], 2) for group in GROUPS}
        for table in tables
    }


def summarise(
    outcomes: Sequence[tuple[DenseRun, Mapping[str, Any] | str]],
    heads: Sequence[str],
    modes: Sequence[str],
    seeds: Sequence[int],
    setting: Mapping[str, Any],
) -> dict[str, Any]:
    """One dict of all results.

    Args:
        outcomes: Runs with their result, or with the reason why there is none.
        heads, modes, seeds: All of them, in order.
        setting: Kept as it is.

    Returns:
        ``heads``: by ``<mode>/<head>`` ``base``, ``novel``, ``all`` and ``h``, box AP50 in percent, one number a seed;
        ``mask``, the same of masks; ``seeds``, those that finished. ``controls``: by ``<mode>/<head>`` the novel box
        AP50 with exchanged rows. Then ``setting``, ``seeds``, ``failures``, ``run_seconds``, ``seconds`` (the same) and
        ``commit``.
    """
    results = [result for _, result in outcomes if not isinstance(result, str)]
    results.sort(key=lambda result: seeds.index(result["seed"]))
    found: dict[str, Any] = {}
    controls: dict[str, list[float]] = {}
    for mode in modes:
        for head in heads:
            mine = [result for result in results if result["head"] == head]
            if mine:
                boxes, masks = (_scores([one["scores"][mode][kind] for one in mine]) for kind in ("bbox", "segm"))
                found[f"{mode}/{head}"] = {**boxes, "mask": masks, "seeds": [one["seed"] for one in mine]}
            wrong = [one["controls"][mode]["bbox"]["novel"] for one in mine if mode in one["controls"]]
            if wrong:
                controls[f"{mode}/{head}"] = wrong
    seconds = round(sum(result["seconds"] for result in results), 1)
    return {
        "heads": found,
        "controls": controls,
        "setting": dict(setting),
        "seeds": list(seeds),
        "failures": [
            {"head": run.head, "seed": run.seed, "error": why} for run, why in outcomes if isinstance(why, str)
        ],
        "run_seconds": seconds,
        "seconds": seconds,
        "commit": ", ".join(sorted({result["commit"] for result in results})) or "unknown",
    }


def _scores(tables: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    scores = {group: [table[group] for table in tables] for group in GROUPS}
    return {**scores, "h": [round(harmonic(table["base"], table["novel"]), 2) for table in tables]}


def study_table(summary: Mapping[str, Any]) -> str:
    """Markdown: a row for every mode and head, then the controls, with what the columns mean."""
    columns = [*(f"box {group}" for group in (*GROUPS, "H")), *(f"mask {group}" for group in GROUPS)]
    rows = [["mode / head", *columns, f"box novel against {_REFERENCE}"], ["---", *["---:"] * (len(columns) + 1)]]
    for name, found in summary["heads"].items():
        cells = [str(spread(found[key])) for key in (*GROUPS, "h")]
        cells += [str(spread(found["mask"][group])) for group in GROUPS]
        rows.append([name, *cells, _against(summary["heads"], name)])
    for name, novel in summary["controls"].items():
        rows.append([f"{name}, novel rows exchanged", "", str(spread(novel)), *[""] * (len(columns) - 1)])
    setting = summary["setting"]
    notes = [
        "AP50 in percent, mean ± sample standard deviation over seeds; last column: mean paired difference ± standard "
        "error (seeds in which the head is above).",
        f"{setting['training_scenes']} training scenes, domain {setting['domain']}, scored on the "
        f"{setting['scored_on']}; seeds {', '.join(map(str, summary['seeds']))}; commit {summary['commit']}.",
    ]
    failed = [f"{one['head']} seed {one['seed']}" for one in summary["failures"]]
    notes += [f"Failed: {', '.join(failed)}."] if failed else []
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", *notes]) + "\n"


def _against(heads: Mapping[str, Any], name: str) -> str:
    mode, head = name.split("/")
    other = heads.get(f"{mode}/{_REFERENCE}")
    if other is None or head == _REFERENCE:
        return ""
    mine, theirs = (dict(zip(one["seeds"], one["novel"], strict=True)) for one in (heads[name], other))
    both = [seed for seed in mine if seed in theirs]
    return str(paired([mine[seed] for seed in both], [theirs[seed] for seed in both])) if both else ""
