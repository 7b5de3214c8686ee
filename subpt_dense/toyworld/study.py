"""The study of the methods on the toy world's crops: paired seeds, a table, curves, hypotheses with their outcome."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console

from subpt_dense.apis.seeds import run_seeds
from subpt_dense.datasets import write_json
from subpt_dense.evaluation.seed_table import markdown_table
from subpt_dense.toyworld.crop_world import build_crop_world
from subpt_dense.toyworld.folder import write_text
from subpt_dense.toyworld.hypotheses import Outcome, check_hypotheses

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
_CLIP = "clip_seed0.pt"
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
        head_options={head: relocated(file, root, clip_seed) for head, file in files.items()},
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


def relocated(config: str | Path, root: str | Path, clip_seed: int) -> dict[str, Any]:
    """The overrides that make a ``cls_toy*`` config read another crop world, with another of its CLIPs.

    Args:
        config: The config file, written for ``data/toy_cls`` and ``clip_seed0.pt``.
        root: The other folder.
        clip_seed: The other CLIP.
    """
    found = {}
    for key, text in _strings(Config.fromfile(config).to_dict()):
        if text == _ROOT or text.startswith(f"{_ROOT}/"):
            found[key] = str(root) + text.removeprefix(_ROOT).replace(_CLIP, f"clip_seed{clip_seed}.pt")
    return found


def _strings(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string in a config, with its dotted key."""
    if isinstance(node, str):
        yield key, node
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for name, inner in pairs:
        yield from _strings(inner, f"{key}.{name}" if key else str(name))
