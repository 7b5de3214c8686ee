"""Base and novel accuracy over training, several seeds a head: a mean line with a band (n seeds, T epochs)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_GROUPS = ("base", "novel", "h")
_TITLES = {"base": "base classes", "novel": "novel classes", "h": "harmonic mean"}


def plot_bands(curves: Mapping[str, Mapping[str, Any]], out: str | os.PathLike[str], *, title: str = "") -> None:
    """Write a PNG with one panel a group; one colour a head, its band is one sample standard deviation.

    A head that was not trained has one epoch, and is drawn as a level line over the whole width.

    Args:
        curves: For every head ``epoch`` (T numbers) and for ``base``, ``novel`` and ``h`` the n seeds' lists of T
            scores in percent.
        out: The picture, written atomically; its folder is made.
        title: Above the panels.

    Raises:
        ValueError: If there is no head, or a list is not as long as its epochs.
    """
    if not curves:
        raise ValueError("`curves` of plot_bands must hold at least one head. Got none.")
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(_GROUPS))
    last = max(max(curve["epoch"]) for curve in curves.values())
    for axes, group in zip(panels, _GROUPS, strict=True):
        for index, (head, curve) in enumerate(curves.items()):
            _draw(axes, curve["epoch"], _scores(head, group, curve), f"C{index}", head, last)
        axes.set(xlabel="epoch", title=_TITLES[group], xlim=(0, last))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy, %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    if title:
        figure.suptitle(title, fontsize="medium")
    save_figure(figure, Path(out))


def _scores(head: str, group: str, curve: Mapping[str, Any]) -> np.ndarray:
    """Scores ``[n, T]``."""
    epochs, rows = curve["epoch"], curve[group]
    lengths = {len(row) for row in rows}
    if lengths != {len(epochs)}:
        raise ValueError(
            f"`{group}` of head {head!r} must hold {len(epochs)} scores a seed, one an epoch. Got {sorted(lengths)}."
        )
    return np.asarray(rows, dtype=float)


def _draw(axes: Any, epochs: Sequence[int], scores: np.ndarray, colour: str, head: str, last: int) -> None:
    mean = scores.mean(axis=0)
    if len(epochs) == 1:
        axes.plot([0, last], [mean[0], mean[0]], ":", color=colour, label=head, linewidth=1.8)
        return
    axes.plot(epochs, mean, color=colour, label=head, linewidth=1.6)
    if len(scores) > 1:
        std = scores.std(axis=0, ddof=1)
        axes.fill_between(epochs, mean - std, mean + std, color=colour, alpha=0.12, linewidth=0)


def save_figure(figure: Figure, out: Path) -> None:
    """Write a PNG atomically; its folder is made."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(partial, dpi=150, format="png")
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
