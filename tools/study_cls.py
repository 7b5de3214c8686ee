"""Compares the methods on the toy world's crops over paired seeds: ``make study-cls``, ``make study-cls-full``."""

import argparse
from pathlib import Path

from rich.console import Console

from subpt_dense.toyworld.study import HEADS, SETTINGS, run_study
from subpt_dense.toyworld.study_full import run_full_study


def main() -> None:
    """Parse, run, show the table; exit code 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="several splits, tiny CLIPs and settings; resumable")
    parser.add_argument(
        "--work-dir", type=Path, help="by default work_dirs/study_cls, with --full work_dirs/study_cls_full"
    )
    parser.add_argument("--seeds", type=int, help="how many: 1 to this; by default 10, with --full 5")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), help="by default fast, with --full all")
    parser.add_argument("--splits", nargs="+", type=int, help="class splits; by default 0; --full: 0 1 2, paper 0")
    parser.add_argument("--clip-seeds", nargs="+", type=int, help="tiny CLIPs; by default 0; --full: 0 1 2, paper 0")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    args = parser.parse_args()
    full = args.full or any(len(asked or ()) > 1 for asked in (args.settings, args.splits, args.clip_seeds))
    work_dir = args.work_dir or Path("work_dirs") / ("study_cls_full" if full else "study_cls")
    seeds = range(1, (args.seeds or (5 if full else 10)) + 1)
    console = Console()
    if full:
        result = run_full_study(
            work_dir,
            seeds=seeds,
            settings=args.settings or list(SETTINGS),
            splits=args.splits,
            clip_seeds=args.clip_seeds,
            heads=args.heads,
            jobs=args.jobs,
            console=console,
        )
    else:
        split, clip = (args.splits or [0])[0], (args.clip_seeds or [0])[0]
        result = run_study(
            work_dir,
            seeds=seeds,
            setting=(args.settings or ["fast"])[0],
            root="data/toy_cls" if split == 0 else f"data/toy_cls_split{split}",
            split=split,
            clip_seed=clip,
            heads=args.heads,
            jobs=args.jobs,
            console=console,
        )
    table = work_dir / "table.md"
    if table.is_file():
        console.print(table.read_text(encoding="utf-8"), markup=False, highlight=False, soft_wrap=True)
    curves = "curves.png in every cell's folder" if full else "curves.png"
    console.print(f"{result['run_seconds']:.0f} s of runs. Look at {work_dir}: table.md, summary.json, {curves}.")
    if result["failures"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
