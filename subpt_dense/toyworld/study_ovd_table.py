"""What the runs of the detection study come to: one summary, one table (n seeds)."""

from collections.abc import Mapping, Sequence
from typing import Any

from subpt_dense.evaluation.scores import harmonic
from subpt_dense.evaluation.seeds import spread
from subpt_dense.toyworld.study_summary import Outcomes, against, closing_notes, make_summary, results_of

GROUPS = ("base", "novel", "all")
_REFERENCE = "coop"


def read_scores(tables: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """AP50 in percent of each of :data:`GROUPS`, by ``bbox`` and ``segm``."""
    return {
        table["details"]["ap_of"]: {group: round(table["groups"][group]["ap50"], 2) for group in GROUPS}
        for table in tables
    }


def summarise(
    outcomes: Outcomes,
    heads: Sequence[str],
    modes: Sequence[str],
    seeds: Sequence[int],
    setting: Mapping[str, Any],
    seconds: float | None = None,
) -> dict[str, Any]:
    """One dict of all results.

    Args:
        outcomes: Runs with their result, or with the reason why there is none.
        heads, modes, seeds: All of them, in order.
        setting: Kept as it is.
        seconds: Wall time of the whole study; None where it was resumed.

    Returns:
        As :func:`subpt_dense.toyworld.study_summary.make_summary`; ``heads`` by ``<mode>/<head>``: ``base``, ``novel``,
        ``all`` and ``h``, box AP50 in percent, and ``mask``, the same of masks; ``controls`` by ``<mode>/<head>``: the
        novel box AP50 with exchanged rows.
    """
    results = results_of(outcomes, seeds)
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
    return make_summary(outcomes, seeds, setting, found, controls, seconds)


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
    notes = [
        "AP50 in percent, mean ± sample standard deviation over seeds; last column: mean paired difference ± standard "
        "error (seeds in which the head is above).",
        *closing_notes(summary, f"{summary['setting']['training_scenes']} training scenes"),
    ]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", *notes]) + "\n"


def _against(heads: Mapping[str, Any], name: str) -> str:
    return against(heads, name, f"{name.split('/')[0]}/{_REFERENCE}", "novel")
