"""Trains, tests and draws on the toy world: ``make demo``."""

import argparse

from subpt_dense.toyworld.demo import HEADS, MORE_HEADS, Demo, print_summary


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work-dir", default="work_dirs/demo")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training runs")
    parser.add_argument("--clip-seed", type=int, default=0, help="which tiny CLIP: 0, 1 or 2")
    parser.add_argument("--full", action="store_true", help="all prompt heads, and a trunk from scratch")
    args = parser.parse_args()
    heads = HEADS + MORE_HEADS if args.full else HEADS
    summary = Demo(args.work_dir, seed=args.seed, clip_seed=args.clip_seed, heads=heads).run()
    print_summary(summary, args.work_dir)


if __name__ == "__main__":
    main()
