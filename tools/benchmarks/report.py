"""The figures of text_encoding.py as tables and as a picture."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contestants import LINEAR, WAYS

_COLOURS = {"truncated": "C1", "shared_prefix": "C0", "reference": "0.4", "chunked": "C2"}


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns aligned: the first to the left, the others to the right; numbers >= 0 with three digits."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    lines = []
    for first, *rest in cells:
        others = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *others]))
    return "\n".join(lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if value < 1:
        return f"{value:.3g}" if value >= 1e-3 else f"{value:.1e}"
    return f"{value:,.{max(0, 3 - len(str(int(value))))}f}"


def print_report(results: Mapping[str, Any]) -> None:
    """Print all tables and what their columns do not say."""
    cases = results["cases"]
    print(f"\n{results['device']}, commit {results['commit']}, {results['tower']}")
    print("\nTime of a step, and speed-up over `reference`: median (lowest..highest) of the ratios within a round\n")
    header: tuple[str, ...] = (
        "way",
        "classes",
        "threads",
        "rounds",
        "CPU ms",
        "wall ms",
        "CPU speed-up",
        "wall speed-up",
    )
    print(table(header, (row for case in cases for row in _times(case))))
    first = list({case["classes"]: case for case in cases}.values())
    print(*_remarks(first), sep="\n")
    print("\n`shared_prefix` over `sdpa` and `fused`, the ratio of their operations, the share of it over `sdpa`\n")
    names = ("CPU over sdpa", "wall", "CPU over fused", "wall", "limit", "CPU share", "wall share")
    header = ("classes", "threads", *names, "chunked / whole, CPU", "wall")
    print(table(header, map(_limit, cases)))
    print("\nOperations of a step, memory kept for backward, most memory in use at once\n")
    header = ("way", "classes", "GFLOP", "saved MiB", "peak MiB")
    print(table(header, (row for case in first for row in _counts(case))))
    print("\nLargest difference of `shared_prefix`, whole and in chunks, to `reference`\n")
    header = ("classes compared", "fp64 rows", "fp64 gradient", "fp32 rows", "fp32 gradient")
    print(table(header, [_errors(first[0])]))
    print("\nSubPT beside it: one projection a step, as a share of a `shared_prefix` step; one basis fit a training\n")
    header = ("classes", "threads", "projection ms", "share", "fit ms")
    print(table(header, (_subpt(case, results["subpt"]) for case in cases)))


def _remarks(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """How far the times of each vocabulary are not those of the whole of it."""
    found = []
    for case in cases:
        ways = ", ".join(way for way in LINEAR if way in case["cpu_ms"])
        if case["subset"] < case["classes"]:
            found.append(f"{ways}: timed on {case['subset']} of {case['classes']} classes, scaled")
        for told, figures in (("timed", case["cpu_ms"]), ("counted", case["saved_mib"])):
            missing = ", ".join(way for way in WAYS if way not in figures)
            if missing:
                found.append(f"{missing}: not {told} for {case['classes']} classes")
    return found


def _times(case: Mapping[str, Any]) -> list[tuple[object, ...]]:
    rows = []
    for way in case["cpu_ms"]:
        ratios = []
        for field in ("cpu", "wall"):
            if way in case[f"{field}_speedup"]:
                low, high = case[f"{field}_range"][way]
                ratios.append(f"{case[f'{field}_speedup'][way]:.2f} ({low:.2f}..{high:.2f})")
            else:
                ratios.append("1")
        start = way, case["classes"], case["threads"], case["rounds"]
        rows.append((*start, case["cpu_ms"][way], case["wall_ms"][way], *ratios))
    return rows


def _limit(case: Mapping[str, Any]) -> tuple[object, ...]:
    fields = ("cpu", "wall")
    over = (case.get(f"{field}_speedup_over_{way}", "") for way in ("sdpa", "fused") for field in fields)
    shares = (f"{case[f'{field}_flop_share']:.0%}" for field in fields)
    chunked = (case.get(f"{field}_chunked_over_whole", "") for field in fields)
    return (case["classes"], case["threads"], *over, case["flop_limit"], *shares, *chunked)


def _counts(case: Mapping[str, Any]) -> list[tuple[object, ...]]:
    return [
        (
            way,
            case["classes"],
            case["flops"][way] / 1e9 if way in case["flops"] else "",
            saved,
            case["peak_mib"].get(way, ""),
        )
        for way, saved in case["saved_mib"].items()
    ]


def _errors(case: Mapping[str, Any]) -> tuple[object, ...]:
    keys = ("fp64_feature_error", "fp64_gradient_error", "fp32_feature_error", "fp32_gradient_error")
    return (case["compared"], *(case[key] for key in keys))


def _subpt(case: Mapping[str, Any], subpt: Sequence[Mapping[str, Any]]) -> tuple[object, ...]:
    found = next(one for one in subpt if one["threads"] == case["threads"])
    share = found["keep_ms"] / case["wall_ms"]["shared_prefix"]
    return (case["classes"], case["threads"], found["keep_ms"], f"{share:.3%}", found["fit_ms"])


def plot(results: Mapping[str, Any], path: Path) -> None:
    """Speed-up by number of classes and threads with the limit that operations set, and memory; a PNG at ``path``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    speed, memory = figure.subplots(1, 2)
    _draw_speed(speed, results["cases"])
    _draw_memory(memory, list({case["classes"]: case for case in results["cases"]}.values()))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, dpi=150, format="png")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _draw_speed(axes: Any, cases: Sequence[Mapping[str, Any]]) -> None:
    for way, shift in (("truncated", -0.2), ("shared_prefix", 0.2)):
        places = [place + shift for place in range(len(cases))]
        heights = [case["wall_speedup"][way] for case in cases]
        ranges = [case["wall_range"][way] for case in cases]
        low = [height - one[0] for height, one in zip(heights, ranges, strict=True)]
        high = [one[1] - height for height, one in zip(heights, ranges, strict=True)]
        bars = axes.bar(places, heights, 0.38, color=_COLOURS[way], label=way, yerr=[low, high], capsize=3)
        axes.bar_label(bars, fmt="%.1f", fontsize="small", padding=2)
    for place, case in enumerate(cases):
        label = "ratio of operations" if place == 0 else None
        axes.plot([place, place + 0.4], 2 * [case["flop_limit"]], color="black", linewidth=1.5, label=label)
    names = [f"{case['classes']}\n{case['threads']} thread{'s' if case['threads'] > 1 else ''}" for case in cases]
    axes.set_xticks(range(len(cases)), names)
    axes.set(ylabel="times", title="Speed-up over 77 tokens a class (time on the clock)", xlabel="classes")
    axes.set_ylim(0, 1.2 * axes.get_ylim()[1])
    axes.legend(fontsize="small", loc="upper center", ncols=3, frameon=False)


def _draw_memory(axes: Any, cases: Sequence[Mapping[str, Any]]) -> None:
    ways = ("reference", "shared_prefix", "chunked")
    for number, way in enumerate(ways):
        counted = [(place, case["saved_mib"][way]) for place, case in enumerate(cases) if way in case["saved_mib"]]
        places = [place + 0.27 * (number - 1) for place, _ in counted]
        heights = [height for _, height in counted]
        bars = axes.bar(places, heights, 0.26, color=_COLOURS[way], label=way)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize="small", padding=2)
    axes.set_yscale("log")
    axes.set_xticks(range(len(cases)), [str(case["classes"]) for case in cases])
    axes.set(ylabel="MiB", title="Memory kept for the backward pass", xlabel="classes")
    axes.set_ylim(axes.get_ylim()[0], 10 * axes.get_ylim()[1])
    axes.legend(fontsize="small", loc="upper center", ncols=3, frameon=False)
