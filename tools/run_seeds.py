"""Several configs with several seeds: ``python tools/run_seeds.py configs/cls_toy_*.py --seeds 1-10 --jobs 2``."""

import argparse
from pathlib import Path

from mmengine.config import DictAction
from rich.console import Console

from subpt_dense.apis.seeds import run_seeds
from subpt_dense.evaluation.seed_table import markdown_table


def parse_seeds(text: str) -> list[int]:
    """``1-3,7`` as 1, 2, 3, 7.

    Raises:
        argparse.ArgumentTypeError: If it is nothing of the kind.
    """
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            seeds += range(int(first), int(last or first) + 1)
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"seeds must be numbers and ranges such as 1-10 or 1,2,5. Got {text!r}.")
    return seeds


def main() -> None:
    """Parse, run, show the table; exit code 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="+", type=Path, help="config files; the file's name is the row's")
    parser.add_argument("--seeds", type=parse_seeds, default=[1, 2, 3], help="such as 1-10 or 1,2,5; by default 1-3")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/seeds"))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="overrides, such as model.prompt.length=8")
    args = parser.parse_args()
    names = [path.stem for path in args.configs]
    if len(set(names)) < len(names):
        parser.error(f"config files must have different names. Got {', '.join(names)}.")
    console = Console()
    summary = run_seeds(
        dict(zip(names, args.configs, strict=True)),
        args.seeds,
        args.work_dir,
        options=args.cfg_options,
        jobs=args.jobs,
        console=console,
    )
    console.print(markdown_table(summary), markup=False, highlight=False, soft_wrap=True)
    console.print(f"{args.work_dir}: summary.json, table.md, curves.png")
    if summary["failures"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
