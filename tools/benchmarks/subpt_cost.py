"""What SubPT costs: whole runs of the toy classification configs beside plain runs of their length.

``python tools/benchmarks/subpt_cost.py --json subpt_cost.json``
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from measure import Timing, commit, interleaved, machine, paired_ratio, paired_ratios

from subpt_dense.apis.seed_run import SeedRun, do_run, seeded_config
from subpt_dense.datasets import write_json
from subpt_dense.toyworld.crop_world import build_crop_world
from subpt_dense.toyworld.relocated import relocated

LIMIT = 1.35
#: With -> without.
PAIRS = {"subpt": "coop", "subpt_nfl": "nfl"}
CONFIGS = Path(__file__).parents[2] / "configs"
_QUICK = {"train_cfg.max_epochs": 5}


def options_of(head: str, root: Path, quick: bool) -> dict[str, Any]:
    """Overrides: the world's folder, no choice of an epoch, no checkpoints (they are the same for all)."""
    options = {
        **relocated(CONFIGS / f"cls_toy_{head}.py", root, home="data/toy_cls"),
        "default_hooks.checkpoint": None,
        "selection_dataset": None,
    }
    # Options that lie in the data set that is not built would bring it back.
    options = {key: value for key, value in options.items() if not key.startswith("selection_dataset.")}
    if quick:
        options |= _QUICK
        if head in PAIRS:
            options |= {"custom_hooks.0.explore": 2, "custom_hooks.0.rank": 1}
    return options


def contestants(root: Path, folder: Path, heads: list[str], quick: bool) -> dict[str, Callable[[], object]]:
    """One whole run a call, each in a folder of its own: building the runner, training, validation."""
    count = iter(range(10**6))

    def make(head: str) -> Callable[[], object]:
        options = options_of(head, root, quick)
        file = str(CONFIGS / f"cls_toy_{head}.py")
        return lambda: do_run(SeedRun(head, file, 1, str(folder / f"{next(count)}_{head}"), options))

    return {head: make(head) for head in heads}


def measure(pairs: Mapping[str, str], root: Path, rounds: int, quick: bool) -> dict[str, Any]:
    """Times and ratios of all pairs."""
    heads = [head for pair in pairs.items() for head in reversed(pair)]
    with tempfile.TemporaryDirectory() as folder:
        timings = interleaved(contestants(root, Path(folder), heads, quick), rounds)
    return {
        "device": machine(),
        "commit": commit(),
        "rounds": rounds,
        "limit": LIMIT,
        "seconds": {head: _medians(found) for head, found in timings.items()},
        "pairs": {
            head: {"over": plain, "floor": _floor(head, root, quick), **_ratios(timings[head], timings[plain])}
            for head, plain in pairs.items()
        },
    }


def _medians(found: list[Timing]) -> dict[str, float]:
    return {field: statistics.median(getattr(one, field) for one in found) for field in Timing._fields}


def _ratios(slow: list[Timing], fast: list[Timing]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in Timing._fields:
        every = paired_ratios(slow, fast, field)
        found |= {field: paired_ratio(slow, fast, field), f"{field}_range": [min(every), max(every)]}
    return found


def _floor(head: str, root: Path, quick: bool) -> float:
    """Epochs of both passes over those of one."""
    cfg = seeded_config(SeedRun(head, str(CONFIGS / f"cls_toy_{head}.py"), 1, "", options_of(head, root, quick)))
    return 1 + cfg.custom_hooks[0].explore / cfg.train_cfg.max_epochs


def show(found: Mapping[str, Any]) -> None:
    """The table, side by side."""
    print(f"{found['device']}, commit {found['commit']}, {found['rounds']} rounds")
    print(f"\n{'run':<12}{'CPU s':>8}{'wall s':>8}{'epochs':>9}{'CPU ratio':>22}{'wall ratio':>22}")
    for head, pair in found["pairs"].items():
        plain, both = found["seconds"][pair["over"]], found["seconds"][head]
        print(f"{pair['over']:<12}{plain['cpu']:>8.2f}{plain['wall']:>8.2f}{'1':>9}{'1':>22}{'1':>22}")
        ratios = [f"{pair[f]:.3f} ({pair[f'{f}_range'][0]:.2f}..{pair[f'{f}_range'][1]:.2f})" for f in ("cpu", "wall")]
        print(f"{head:<12}{both['cpu']:>8.2f}{both['wall']:>8.2f}{pair['floor']:>9.2f}{ratios[0]:>22}{ratios[1]:>22}")
        kept = pair["cpu"] <= found["limit"] and pair["wall"] <= found["limit"]
        print(f"{'':<12}limit {found['limit']}: {'kept' if kept else 'NOT kept'}")


def main() -> None:
    """Parse, measure, show, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("data/toy_cls"), help="the crop world; made if missing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--heads", nargs="+", choices=PAIRS, default=list(PAIRS), help="(default: both)")
    parser.add_argument("--quick", action="store_true", help="five epochs: shows that it runs, no figure to rely on")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE, too")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1. Got {args.rounds}.")
    torch.set_num_threads(1)
    if not (args.root / "world.json").is_file():
        build_crop_world(args.root)
    found = measure(
        {head: PAIRS[head] for head in dict.fromkeys(args.heads)}, args.root.resolve(), args.rounds, args.quick
    )
    show(found)
    if args.json:
        write_json(args.json, found, indent=1)


if __name__ == "__main__":
    main()
