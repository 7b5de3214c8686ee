"""The study over several class splits and several tiny CLIPs, in both settings: what a claim must stand on."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from subpt_dense.datasets import write_json
from subpt_dense.evaluation.seeds import paired, spread
from subpt_dense.toyworld.folder import write_text
from subpt_dense.toyworld.hypotheses import Outcome, check_hypotheses
from subpt_dense.toyworld.study import HEADS, SETTINGS, outcome_line, run_study

#: Setting -> class splits and tiny CLIPs. A run in the paper's setting takes ten times as long as a fast one.
CELLS = {"fast": ((0, 1, 2), (0, 1, 2)), "paper": ((0,), (0,))}
_GROUPS = {"base": "base", "novel": "novel", "h": "H"}


def run_full_study(
    work_dir: str | Path,
    *,
    seeds: Sequence[int],
    settings: Sequence[str] = tuple(SETTINGS),
    splits: Sequence[int] | None = None,
    clip_seeds: Sequence[int] | None = None,
    root: str | Path = "data/toy_cls",
    console: Console | None = None,
    **study: Any,
) -> dict[str, Any]:
    """:func:`~subpt_dense.toyworld.study.run_study` for every setting, split and CLIP, and one table of them all.

    It may be stopped at any time: finished runs are kept, and the table is written after each cell.

    Args:
        work_dir: Where everything goes; a cell has the folder ``<setting>/split<s>_clip<c>``.
        seeds: Of every cell.
        settings: Keys of :data:`~subpt_dense.toyworld.study.SETTINGS`.
        splits: Base/novel splits, by default those of :data:`CELLS`; split 0 lives in ``root``, the others beside it.
        clip_seeds: Tiny CLIPs, by default those of :data:`CELLS`.
        root: Folder of the first crop world.
        console: Where progress goes.
        **study: Further arguments of ``run_study``.

    Returns:
        ``settings``: by name what :func:`pool` gives; ``seconds``; ``failures``.
    """
    console = console or Console()
    cells = [
        (setting, *cell)
        for setting in settings
        for cell in product(splits or CELLS[setting][0], clip_seeds or CELLS[setting][1])
    ]
    summaries: dict[tuple[str, int, int], Mapping[str, Any]] = {}
    for number, (setting, split, clip) in enumerate(cells, start=1):
        console.print(f"{setting}, split {split}, clip {clip} ({number} of {len(cells)})", highlight=False)
        summaries[setting, split, clip] = run_study(
            Path(work_dir) / setting / f"split{split}_clip{clip}",
            seeds=seeds,
            setting=setting,
            root=root if split == 0 else f"{root}_split{split}",
            split=split,
            clip_seed=clip,
            console=console,
            **study,
        )
        result = _together(summaries)
        write_json(Path(work_dir) / "summary.json", result)
        write_text(Path(work_dir) / "table.md", full_table(result))
    return result


def _together(summaries: Mapping[tuple[str, int, int], Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for (setting, split, clip), summary in summaries.items():
        found.setdefault(setting, {})[f"split {split}, clip {clip}"] = summary
    return {
        "settings": {setting: {"is": SETTINGS[setting][1], **pool(cells)} for setting, cells in found.items()},
        "run_seconds": round(sum(summary["run_seconds"] for summary in summaries.values()), 1),
        "failures": [one for summary in summaries.values() for one in summary["failures"]],
        "seeds": next(iter(summaries.values()))["seeds"],
        "commit": ", ".join(sorted({summary["commit"] for summary in summaries.values()} - {"unknown"})) or "unknown",
    }


def pool(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Summaries of several cells as one.

    Args:
        cells: By name what :func:`subpt_dense.apis.run_seeds` gives.

    Returns:
        ``cells``: by cell and head the means of ``base``, ``novel`` and ``h``, the last epoch's and ``best``, the
        chosen one's. ``heads``: by head those means over all cells, each with its deviation over cells (None for one
        cell). ``over_coop``: by head the paired differences of single runs to CoOp's, over the runs of all cells.
        ``hypotheses``: those of :func:`~subpt_dense.toyworld.hypotheses.check_hypotheses`, on the runs of all cells.
    """
    means = {cell: {head: _means(one) for head, one in summary["heads"].items()} for cell, summary in cells.items()}
    heads = [head for head in HEADS if any(head in found for found in means.values())]
    pooled: dict[str, Any] = {}
    for head in heads:
        mine = [found[head] for found in means.values() if head in found]
        pooled[head] = {key: list(spread([m[key] for m in mine])) for key in _GROUPS}
        chosen = [m["best"] for m in mine]
        pooled[head]["best"] = {key: list(spread([m[key] for m in chosen])) for key in _GROUPS} if all(chosen) else None
    return {
        "cells": means,
        "heads": pooled,
        "over_coop": {
            head: changes for head in heads if head != "coop" and (changes := _changes(cells.values(), head))
        },
        "hypotheses": [outcome._asdict() for outcome in check_hypotheses({"heads": _together_heads(cells, heads)})],
    }


def _together_heads(cells: Mapping[str, Mapping[str, Any]], heads: Sequence[str]) -> dict[str, Any]:
    """The runs of all cells as if they were seeds of one; a run's seed is (cell, seed)."""
    found: dict[str, dict[str, Any]] = {}
    for head in heads:
        mine = {cell: summary["heads"][head] for cell, summary in cells.items() if head in summary["heads"]}
        curves = [one["curves"] for one in mine.values() if "curves" in one]
        found[head] = {
            "seeds": [(cell, seed) for cell, one in mine.items() for seed in one["seeds"]],
            **{key: [value for one in mine.values() for value in one[key]] for key in _GROUPS},
        }
        if len(curves) == len(mine) and all(curve["epoch"] == curves[0]["epoch"] for curve in curves):
            rows = {key: [row for curve in curves for row in curve[key]] for key in curves[0] if key != "epoch"}
            found[head]["curves"] = {"epoch": curves[0]["epoch"], **rows}
    return found


def _means(found: Mapping[str, Any]) -> dict[str, Any]:
    best = found["best"]
    return {
        **{key: spread(found[key]).mean for key in _GROUPS},
        "best": {key: spread(best[key]).mean for key in _GROUPS} if best else None,
    }


def _changes(summaries: Iterable[Mapping[str, Any]], head: str) -> dict[str, Any] | None:
    mine: dict[str, list[float]] = {key: [] for key in _GROUPS}
    theirs: dict[str, list[float]] = {key: [] for key in _GROUPS}
    for heads in (summary["heads"] for summary in summaries):
        if head not in heads or "coop" not in heads:
            continue
        for key in _GROUPS:
            one, other = (dict(zip(heads[h]["seeds"], heads[h][key], strict=True)) for h in (head, "coop"))
            both = [seed for seed in one if seed in other]
            mine[key] += [one[seed] for seed in both]
            theirs[key] += [other[seed] for seed in both]
    if not mine["h"]:
        return None
    return {key: paired(mine[key], theirs[key])._asdict() for key in _GROUPS}


def full_table(result: Mapping[str, Any]) -> str:
    """Markdown: for every setting a table of heads over all cells, then one of H cell by cell."""
    lines = []
    for setting, pooled in result["settings"].items():
        lines += [f"**{setting}**: {pooled['is']}", "", *_head_rows(pooled), "", *_cell_rows(pooled), ""]
        lines += [*(outcome_line(Outcome(**one)) for one in pooled["hypotheses"]), ""]
    lines += [
        "Accuracy in percent: the mean over cells ± deviation over cells; a cell is a class split with a tiny CLIP, "
        "and its value a mean over seeds. last: after the last epoch. best: at the epoch with the highest accuracy on "
        "validation images of base classes. Against CoOp: mean paired difference of H at the last epoch ± standard "
        "error (seeds in which the head is above).",
        f"Seeds {', '.join(map(str, result['seeds']))}; commit {result['commit']}.",
    ]
    return "\n".join(lines) + "\n"


def _head_rows(pooled: Mapping[str, Any]) -> list[str]:
    columns = [f"{label}, {when}" for when in ("last", "best") for label in _GROUPS.values()]
    rows = [["head", *columns, "H against CoOp"], ["---", *["---:"] * (len(columns) + 1)]]
    for head, found in pooled["heads"].items():
        best = found["best"]
        cells = [_pm(*found[key][:2]) for key in _GROUPS] + [_pm(*best[key][:2]) if best else "-" for key in _GROUPS]
        change = pooled["over_coop"].get(head)
        against = "" if change is None else f"{_pm(change['h']['difference'], change['h']['error'], '+')} "
        count = "" if change is None else f"({change['h']['wins']} of {change['h']['seeds']})"
        rows.append([head, *cells, against + count])
    return [f"| {' | '.join(row)} |" for row in rows]


def _cell_rows(pooled: Mapping[str, Any]) -> list[str]:
    heads = list(pooled["heads"])
    rows = [["base / novel / H, last", *heads], ["---", *["---:"] * len(heads)]]
    for cell, found in pooled["cells"].items():
        scores = ([found[head][key] for key in _GROUPS] if head in found else None for head in heads)
        rows.append([cell, *("-" if s is None else " / ".join(f"{value:.1f}" for value in s) for s in scores)])
    return [f"| {' | '.join(row)} |" for row in rows]


def _pm(mean: float, deviation: float | None, sign: str = "") -> str:
    return f"{mean:{sign}.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")
