"""Compares learned words in a segmentor on shifted toy scenes with few labelled images: ``make study-zss``."""

import argparse
from pathlib import Path

from rich.console import Console

from subpt_dense.toyworld.study_zss import HEADS, run_zss_study


def main() -> None:
    """Parse, run, show the table; exit code 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/study_zss"))
    parser.add_argument("--root", type=Path, default=Path("data/toy_zss"), help="the study's world")
    parser.add_argument("--seeds", type=int, default=5, help="how many: 1 to this (default: %(default)s)")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--images", type=int, default=48, help="labelled images a seed draws (default: %(default)s)")
    parser.add_argument("--choosing", action="store_true", help="score on the scenes that settings are chosen on")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    args = parser.parse_args()
    console = Console()
    result = run_zss_study(
        args.work_dir,
        seeds=range(1, args.seeds + 1),
        heads=args.heads,
        root=args.root,
        images=args.images,
        choosing=args.choosing,
        jobs=args.jobs,
        console=console,
    )
    table = args.work_dir / "table.md"
    if table.is_file():
        console.print(table.read_text(encoding="utf-8"), markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{result['run_seconds']:.0f} s of runs. Look at {args.work_dir}: table.md, summary.json, scores.png."
    )
    if result["failures"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
