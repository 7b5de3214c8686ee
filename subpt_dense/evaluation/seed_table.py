"""Results of several seeds as a table for people."""

from collections.abc import Mapping
from typing import Any

from subpt_dense.evaluation.seeds import spread

_GROUPS = ("base", "novel", "h")


def table_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Cells: a header, then one row a head, ``mean ± std`` over its seeds.

    Args:
        summary: What :func:`subpt_dense.apis.run_seeds` gives.
    """
    groups = ("base", "novel", "H")
    header = ["head", "seeds", *(f"{group}, last" for group in groups), *(f"{group}, best" for group in groups)]
    rows = [[*header, "best epoch"]]
    for head, found in summary["heads"].items():
        last = [str(spread(found[group])) for group in _GROUPS]
        chosen = found.get("best")
        best = [str(spread(chosen[key])) if chosen else "-" for key in (*_GROUPS, "epoch")]
        rows.append([head, str(len(found["base"])), *last, *best])
    return rows


def markdown_table(summary: Mapping[str, Any]) -> str:
    """The table in Markdown, with what its columns mean, the seeds and the commit below."""
    header, *rows = table_rows(summary)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    notes = [
        "Accuracy in percent, mean ± sample standard deviation over seeds. last: after the last epoch. best: at the "
        "epoch with the highest accuracy on validation images of base classes.",
        f"Seeds {', '.join(map(str, summary['seeds']))}; commit {summary['commit']}.",
    ]
    failed = [f"{one['head']} seed {one['seed']}" for one in summary.get("failures", ())]
    if failed:
        notes.append(f"Failed: {', '.join(failed)}.")
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join([*(f"| {' | '.join(line)} |" for line in padded), "", *notes]) + "\n"
