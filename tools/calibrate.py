"""Chooses gamma, which is subtracted from the seen classes' scores, on classes held out of the seen ones.

    python tools/calibrate.py CONFIG --holdout 3 --write-split work_dirs/calibrate/split.json
    python tools/train.py CONFIG --work-dir work_dirs/calibrate/run --cfg-options (as the first command says)
    python tools/calibrate.py CONFIG work_dirs/calibrate/run/iter_20000.pth --cfg-options (the same)
    python tools/test.py CONFIG CHECKPOINT --cfg-options model.decode_head.gamma=X

The held-out classes must not have been trained on, or gamma comes out too small: hence a model of its own (the first
two commands). A checkpoint that was trained on them is taken with --holdout; the result says so.
"""

import argparse
from pathlib import Path

import numpy as np
from mmengine.config import Config, DictAction
from rich.console import Console
from rich.table import Table

from subpt_dense.apis import load_config
from subpt_dense.apis.calibration import calibrate, holdout_split, largest_gamma
from subpt_dense.apis.launch import is_first_process
from subpt_dense.datasets import get_split, write_json
from subpt_dense.datasets.label_files import write_ids


def parse_args() -> argparse.Namespace:
    """Config, checkpoint, what is held out, and the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", nargs="?", help="checkpoint file; not needed to write a split")
    parser.add_argument("--holdout", nargs="+", metavar="NAME", help="seen classes to hold out, or how many")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    parser.add_argument("--write-split", metavar="FILE.json", help="only write the split to train on")
    parser.add_argument("--max", type=float, help="largest gamma, in the head's scores (default: 10 logits, or 1)")
    parser.add_argument("--steps", type=int, default=41, help="gammas from 0 to the largest (default: %(default)s)")
    parser.add_argument("--images", type=int, help="how many training images, drawn (default: all)")
    parser.add_argument("--work-dir", help="where logs go; by default work_dirs/<config name>")
    parser.add_argument("--out", metavar="FILE.json", help="the choice; by default gamma.json in the work dir")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="overrides, as in tools/train.py")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    return parser.parse_args()


def main() -> None:
    """Parse; write a split, or choose gamma and print the grid."""
    args = parse_args()
    cfg = load_config(args.config, options=args.cfg_options, work_dir=args.work_dir, launcher=args.launcher)
    heldout = args.holdout
    if heldout and len(heldout) == 1 and heldout[0].isdigit():
        heldout = int(heldout[0])
    if args.write_split:
        if heldout is None:
            raise ValueError("`--write-split` needs `--holdout`: names, or how many. Got none.")
        if Path(args.write_split).suffix != ".json":
            raise ValueError(f"`--write-split` must end in .json. Got {args.write_split!r}.")
        split = holdout_split(cfg, heldout, seed=args.seed)
        if is_first_process():
            _write_split(args.write_split, split, _training_data(cfg))
        return
    largest = largest_gamma(cfg) if args.max is None else args.max
    if args.steps < 2 or not largest > 0:
        raise ValueError(f"`--steps` must be 2 or more and `--max` above 0. Got {args.steps} and {largest}.")
    out = args.out or Path(cfg.work_dir) / "gamma.json"
    gammas = np.linspace(0, largest, args.steps).tolist()
    result = calibrate(cfg, args.checkpoint, heldout, gammas=gammas, out=out, seed=args.seed, images=args.images)
    if result is not None:  # the main process
        _show(result, str(out))


def _training_data(cfg: Config) -> str:
    """Where a config states the data it trains on, inside wrappers such as CachedMaps."""
    key, node = "train_dataloader.dataset", cfg.train_dataloader.dataset
    while "dataset" in node:
        key, node = f"{key}.dataset", node.dataset
    return key


def _write_split(path: str, split: dict, key: str) -> None:
    """The split file, and beside it what the numbers in the label maps mean."""
    labels = Path(path).with_suffix(".labels.txt")
    write_json(path, {key: split[key] for key in ("name", "base", "novel")}, indent=1)
    write_ids(labels, split["labels"])
    get_split(path)
    console = Console()
    console.print(f"Held out: {', '.join(split['novel'])}", markup=False, highlight=False, soft_wrap=True)
    options = f"--cfg-options {key}.split={path} {key}.labels={labels}"
    console.print(f"Train with: {options}", markup=False, highlight=False, soft_wrap=True)


def _show(result: dict, out: str) -> None:
    table = Table("gamma", "pAcc", "S", "U", "hIoU", title=f"{len(result['heldout'])} held-out seen classes as unseen")
    for row in result["grid"]:
        mark = " *" if row["gamma"] == result["gamma"] else ""
        table.add_row(f"{row['gamma']:g}{mark}", *(f"{row[key]:.1f}" for key in ("pAcc", "S", "U", "hIoU")))
    console = Console()
    console.print(table)
    if result["at_the_edge"]:
        console.print("The largest gamma is the best: try larger ones (--max).")
    if result["heldout_trained"]:
        console.print("The held-out classes were trained on: gamma is too small. See --help.")
    console.print(f"{out}: test with --cfg-options model.decode_head.gamma={result['gamma']:g}", soft_wrap=True)


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, FileExistsError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
