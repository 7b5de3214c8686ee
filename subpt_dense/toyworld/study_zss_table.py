"""What the runs of the segmentation study come to: one summary, one table, how far the seeds lie apart (n seeds)."""

from collections.abc import Mapping, Sequence
from typing import Any

from subpt_dense.evaluation.seeds import spread
from subpt_dense.toyworld.study_summary import Outcomes, against, closing_notes, make_summary, results_of

#: Key of a summary: what tables call it.
SCORES = {"pacc": "pAcc", "base": "S", "novel": "U", "h": "hIoU"}
#: The only way in which a segmentor is tested.
MODE = "joint"
_REFERENCE = "coop"


def read_scores(tables: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """:data:`SCORES` in percent, from the one table of a test."""
    (table,) = tables
    groups = table["groups"]
    found = {
        "pacc": groups["all"]["pacc"],
        "base": groups["seen"]["miou"],
        "novel": groups["unseen"]["miou"],
        "h": groups["all"]["hiou"],
    }
    return {key: round(value, 2) for key, value in found.items()}


def summarise(
    outcomes: Outcomes,
    heads: Sequence[str],
    seeds: Sequence[int],
    setting: Mapping[str, Any],
    seconds: float | None = None,
) -> dict[str, Any]:
    """One dict of all results.

    Args:
        outcomes: Runs with their result, or with the reason why there is none.
        heads, seeds: All of them, in order.
        setting: Kept as it is.
        seconds: Wall time of the whole study; None where it was resumed.

    Returns:
        As :func:`subpt_dense.toyworld.study_summary.make_summary`; ``heads`` by name: ``pacc``, ``base`` (mean IoU of
        seen classes), ``novel`` (unseen) and ``h`` (hIoU) in percent; ``controls`` by head: the unseen classes' IoU
        with exchanged rows.
    """
    results = results_of(outcomes, seeds)
    found: dict[str, Any] = {}
    controls: dict[str, list[float]] = {}
    for head in heads:
        mine = [result for result in results if result["head"] == head]
        if mine:
            scores = {key: [one["scores"][MODE][key] for one in mine] for key in SCORES}
            found[head] = {**scores, "seeds": [one["seed"] for one in mine]}
        wrong = [one["controls"][MODE]["novel"] for one in mine if MODE in one["controls"]]
        if wrong:
            controls[head] = wrong
    return make_summary(outcomes, seeds, setting, found, controls, seconds)


def study_table(summary: Mapping[str, Any]) -> str:
    """Markdown: a row for every head, the control, then the heads' deviations over the seeds in one line."""
    heads = summary["heads"]
    rows = [["head", *SCORES.values(), f"hIoU against {_REFERENCE}"], ["---", *["---:"] * (len(SCORES) + 1)]]
    for name, found in heads.items():
        label = f"{name} (knows the unseen names)" if name.endswith("_heldout") else name
        rows.append([label, *(str(spread(found[key])) for key in SCORES), against(heads, name, _REFERENCE, "h")])
    for name, novel in summary["controls"].items():
        rows.append([f"{name}, unseen rows exchanged", "", "", str(spread(novel)), "", ""])
    apart = {name: spread(found["h"]).std for name, found in heads.items()}
    deviations = ", ".join(f"{name} {value:.2f}" for name, value in apart.items() if value is not None)
    notes = [
        "Percent, mean ± sample standard deviation over seeds; last column: mean paired difference ± standard error "
        "(seeds in which the head is above).",
        *([f"Deviation of hIoU over the seeds: {deviations}."] if deviations else []),
        *closing_notes(summary, f"{summary['setting']['training_images']} labelled images"),
    ]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", *notes]) + "\n"
