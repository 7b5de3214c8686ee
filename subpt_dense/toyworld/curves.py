"""Base and novel AP50 over training, as a picture."""

import json
from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def read_curve(work_dir: Path) -> dict[str, list[float]]:
    """Iterations and base, novel AP50 (0..100) of the newest run in a work dir, from the scalars mmengine's
    visualizer wrote.

    Raises:
        FileNotFoundError: If no run there has been validated.
    """
    curve: dict[str, list[float]] = {"step": [], "base": [], "novel": []}
    for file in sorted(work_dir.glob("*/vis_data/scalars.json"), reverse=True):
        for line in file.read_text().splitlines():
            scalars = json.loads(line)
            if "coco/base_ap50" in scalars:
                curve["step"].append(scalars["step"])
                for group in ("base", "novel"):
                    curve[group].append(100 * scalars[f"coco/{group}_ap50"])
        if len(curve["step"]) > 1:  # a test run logs one line
            return curve
        curve = {"step": [], "base": [], "novel": []}
    raise FileNotFoundError(f"{work_dir} must hold a run with validations. Found none.")


def plot_curves(runs: Mapping[str, Path], out: Path) -> None:
    """One colour a head, base solid and novel dashed."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, (head, work_dir) in enumerate(runs.items()):
        curve = read_curve(work_dir)
        for group, style in (("base", "-o"), ("novel", "--s")):
            axes.plot(curve["step"], curve[group], style, color=f"C{index}", label=f"{head}, {group}", markersize=4)
    axes.set(
        xlabel="iteration", ylabel="AP50", ylim=(0, 100), title="Toy world: base and novel classes during training"
    )
    axes.grid(alpha=0.3)
    axes.legend(ncols=2, fontsize="small", loc="lower right")
    figure.savefig(out, dpi=150)
