"""The study of the methods on the toy world's crops: paired seeds, a table, curves, hypotheses with their outcome."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from subpt_dense.apis.seeds import run_seeds
from subpt_dense.datasets import write_json
from subpt_dense.evaluation.seed_table import markdown_table
from subpt_dense.toyworld.crop_world import build_crop_world
from subpt_dense.toyworld.folder import write_text
from subpt_dense.toyworld.hypotheses import Outcome, check_hypotheses
from subpt_dense.toyworld.relocated import relocated

HEADS = ("template", "coop", "subpt", "nfl", "subpt_nfl", "subpt_nfl_heldout")
#: Setting -> the configs' data set, and what it is. Fixed beforehand, on another world's pictures and another CLIP.
SETTINGS = {
    "fast": (
        "toy",
        "cached features, 2 shots, batch 48, SGD lr 0.03, 60 epochs, t_early 12, rank 5, NFL weight 4, "
        "64 generic names",
    ),
    "paper": (
        "toyaug",
        "RandomResizedCrop and flip, 4 shots, batch 32, SGD lr 0.002, 100 epochs, t_early 30, rank 10, NFL weight 1, "
        "64 generic names",
    ),
}
_ROOT = "data/toy_cls"
#: Checkpoints would cost a run a tenth of its time; the trajectory holds every epoch's prompt.
_LEAN = {"default_hooks.checkpoint": None}


def run_study(
    work_dir: str | Path,
    *,
    seeds: Sequence[int],
    setting: str = "fast",
    root: str | Path = _ROOT,
    domain: str = "tint",
    split: int = 0,
    clip_seed: int = 0,
    heads: Sequence[str] = HEADS,
    jobs: int = 2,
    options: Mapping[str, Any] | None = None,
    configs: str | Path = "configs",
    console: Console | None = None,
) -> dict[str, Any]:
    """Make the world, run every head with every seed, check the hypotheses.

    Writes ``summary.json``, ``table.md`` and ``curves.png`` under ``work_dir``. What is there already, of the same
    settings, is not done again.

    Args:
        work_dir: Where everything goes.
        seeds: Seeds of the runs, and of their few-shot draws.
        setting: A key of :data:`SETTINGS`.
        root: The crop world's folder.
        domain: Look of its pictures.
        split: Which base/novel split.
        clip_seed: Which tiny CLIP.
        heads: Of :data:`HEADS`, in the order of the table.
        jobs: Processes at a time, with one thread each.
        options: Overrides for every config.
        configs: Folder of the configs.
        console: Where progress goes.

    Returns:
        What :func:`subpt_dense.apis.run_seeds` gives, with ``hypotheses``.

    Raises:
        ValueError: If the setting is another.
        FileExistsError: If ``root`` holds another world.
    """
    if setting not in SETTINGS:
        raise ValueError(f"`setting` of run_study must be one of {', '.join(SETTINGS)}. Got {setting!r}.")
    build_crop_world(root, domain=domain, split_seed=split)
    name, words = SETTINGS[setting]
    # One config for what is not trained: only its data is asked for.
    files = {head: Path(configs) / f"cls_{'toy' if head == 'template' else name}_{head}.py" for head in heads}
    summary = run_seeds(
        files,
        seeds,
        work_dir,
        options={**_LEAN, **(options or {})},
        head_options={head: relocated(file, root, clip_seed, home=_ROOT) for head, file in files.items()},
        jobs=jobs,
        setting={"name": setting, "is": words, "domain": domain, "split": split, "clip_seed": clip_seed},
        console=console,
    )
    outcomes = check_hypotheses(summary)
    summary["hypotheses"] = [outcome._asdict() for outcome in outcomes]
    write_json(Path(work_dir) / "summary.json", summary)
    if summary["heads"]:
        write_text(Path(work_dir) / "table.md", "\n".join([markdown_table(summary), *map(outcome_line, outcomes), ""]))
    return summary


def outcome_line(outcome: Outcome) -> str:
    """A hypothesis in Markdown: what was claimed, whether it holds, by which figures."""
    verdict = {True: "holds", False: "does not hold", None: "not decided"}[outcome.holds]
    return f"- {outcome.name}, {outcome.claim}: **{verdict}**. {outcome.figures}"
