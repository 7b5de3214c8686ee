"""The analysis of one run or several as a picture of four panels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from subpt_dense.evaluation.curves_plot import save_figure

_MOST = 12  # directions shown


def plot_flow(flows: Mapping[str, Mapping[str, Any]], plane: Mapping[str, Any], out: Path) -> None:
    """Write a PNG: explained variance, angles, share of the gradient, the trajectories in a plane.

    Args:
        flows: By run what :func:`subpt_dense.evaluation.gradient_flow.gradient_flow` gives.
        plane: What its ``plane`` gives of the same runs.
        out: The picture; written atomically.
    """
    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2).ravel()
    for index, (run, flow) in enumerate(flows.items()):
        colour = f"C{index}"
        _explained(panels[0], run, flow, colour)
        _angles(panels[1], run, flow, colour)
        _inside(panels[2], run, flow, colour)
        _walk(panels[3], run, np.asarray(plane["runs"][run]), colour)
    first = next(iter(flows.values()))
    panels[0].set(title="variance explained", xlabel="directions", ylabel="share", ylim=(None, 1.005))
    panels[0].set_xticks(range(1, _MOST + 1, 2))
    panels[1].set(
        title=f"principal angles to the subspace of the first {first['early']} epochs",
        xlabel="last epoch of the window", ylabel="degrees", ylim=(-2, 92),
    )  # fmt: skip
    panels[2].axhline(first["chance"], color="0.5", linewidth=1, linestyle=":", label="a random direction")
    panels[2].set(
        title=f"inside the early subspace of rank {first['rank']}", xlabel="epoch",
        ylabel="share of the squared length", ylim=(-0.02, 1.02),
    )  # fmt: skip
    shares = [f"{100 * share:.1f} %" for share in plane["shares"]]
    panels[3].set(title="the way of the prompt", xlabel=f"1st direction ({shares[0]})", ylabel=f"2nd ({shares[1]})")
    for axes in panels:
        axes.grid(alpha=0.3)
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles, labels, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    save_figure(figure, out)


def _explained(axes: Any, run: str, flow: Mapping[str, Any], colour: str) -> None:
    for part, style, words in (("early", "--o", f"first {flow['early']} epochs"), ("whole", "-s", "all epochs")):
        shares = flow["explained"][part][:_MOST]
        axes.plot(range(1, len(shares) + 1), shares, style, color=colour, markersize=4, label=f"{run}, {words}")


def _angles(axes: Any, run: str, flow: Mapping[str, Any], colour: str) -> None:
    windows = [window for window in flow["windows"] if window["angles"]]
    last = [window["last"] for window in windows]
    axes.plot(last, [w["angles"][-1] for w in windows], "-o", color=colour, label=f"{run}, largest")
    axes.plot(last, [w["angles"][0] for w in windows], "--o", color=colour, label=f"{run}, smallest", alpha=0.6)


def _inside(axes: Any, run: str, flow: Mapping[str, Any], colour: str) -> None:
    axes.plot(flow["epochs"], flow["inside"], "-", color=colour, label=f"{run}, gradient")
    moved = [np.nan if share is None else share for share in flow["moved_inside"]]
    axes.plot(flow["epochs"], moved, "--", color=colour, label=f"{run}, displacement", alpha=0.7)


def _walk(axes: Any, run: str, points: np.ndarray, colour: str) -> None:
    axes.plot(points[:, 0], points[:, 1], "-", color=colour, linewidth=1, alpha=0.7)
    axes.scatter(points[:, 0], points[:, 1], s=np.linspace(4, 16, len(points)), color=colour, label=run)
    axes.scatter(*points[0], marker="o", s=70, facecolors="none", edgecolors=colour, label=f"{run}, epoch 1")
    axes.scatter(*points[-1], marker="*", s=110, color=colour, edgecolors="black", linewidths=0.5)
    axes.annotate("end", points[-1], textcoords="offset points", xytext=(-22, 7), fontsize="small", color=colour)
