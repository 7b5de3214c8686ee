"""Scores of several methods, a dot a seed: one panel a group (n seeds)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from subpt_dense.evaluation.curves_plot import save_figure


def plot_dots(
    scores: Mapping[str, Mapping[str, Sequence[float]]], out: str | os.PathLike[str], *, label: str = "score"
) -> None:
    """Write a PNG: a line for every method, a dot for every seed, a stroke at their mean.

    Methods called ``<family>/<name>`` have a colour a family.

    Args:
        scores: By method, by group, the n seeds' scores in percent.
        out: The picture, written atomically; its folder is made.
        label: What is measured.

    Raises:
        ValueError: If there is no method, or methods have different groups.
    """
    groups = {tuple(found) for found in scores.values()}
    if len(groups) != 1:
        raise ValueError(
            f"`scores` of plot_dots must hold methods with the same groups. Got {sorted(groups) or 'no method'}."
        )
    (names,) = groups
    families = list(dict.fromkeys(method.split("/")[0] for method in scores))
    figure = Figure(figsize=(5.0 * len(names), 1.2 + 0.3 * len(scores)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, group in zip(panels, names, strict=True):
        for place, (method, found) in enumerate(scores.items()):
            values, colour = list(found[group]), f"C{families.index(method.split('/')[0])}"
            axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.6, markersize=5)
            mean = sum(values) / len(values)
            axes.plot([mean, mean], [place - 0.35, place + 0.35], color=colour, linewidth=2)
        axes.set(title=group, xlabel=label)
        axes.grid(alpha=0.3)
    panels[0].set_yticks(range(len(scores)), list(scores))
    panels[0].invert_yaxis()
    save_figure(figure, Path(out))
