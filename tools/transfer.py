"""Tests what was learned elsewhere, nothing is trained. A prompt on classification sets:
``python tools/transfer.py work_dirs/cls_imagenet_coop/prompt.safetensors configs/cls_imagenetv2_template.py``; a
detector on other names: ``python tools/transfer.py work_dirs/ovd_lvis_subpt/epoch_12.pth
configs/_base_/datasets/ovd_voc07.py configs/_base_/datasets/ovd_coco80.py``; a segmentor likewise, on
``configs/_base_/datasets/zss_pc59.py``."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from subpt_dense.apis import load_config, transfer
from subpt_dense.apis.launch import is_first_process
from subpt_dense.apis.model_transfer import transfer_model
from subpt_dense.datasets import write_json

#: Scores of a detector, then of a segmentor: what the table calls them.
_SCORES = {"ap50": "AP50", "ap": "AP", "miou": "mIoU", "pacc": "pAcc"}


def main() -> None:
    """Parse, test, print a line for each data set, write."""
    parser = argparse.ArgumentParser(description="Tests what was learned elsewhere; nothing is trained.")
    parser.add_argument("learned", help="prompt file of a run, prompt.safetensors, or a model's checkpoint, .pth")
    parser.add_argument("configs", nargs="+", help="configs of the data sets to test on")
    parser.add_argument("--config", help="of a checkpoint: its config; by default the one beside the checkpoint")
    parser.add_argument(
        "--as-heldout",
        action="store_true",
        help="take an NFL prompt whose extra names are evaluated here; results say so",
    )
    parser.add_argument("--work-dir", default="work_dirs/transfer", help="(default: %(default)s)")
    parser.add_argument("--out", metavar="FILE.json", help="(default: transfer.json in the work dir)")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    args = parser.parse_args()
    results = _model(args) if args.learned.endswith(".pth") else _prompt(args)
    if is_first_process():
        write_json(args.out or Path(args.work_dir) / "transfer.json", results, indent=1)


def _prompt(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    results = transfer(
        args.learned, [load_config(path) for path in args.configs], args.work_dir, as_heldout=args.as_heldout
    )
    table = Table("data set", "names", "images", "accuracy", title=args.learned)
    for result in results.values():
        (scores,) = result["tables"]
        whole = scores["groups"]["all"]
        row = (scores["details"]["data_set"], whole["classes"], scores["images"], f"{whole['accuracy']:.1f}")
        table.add_row(*map(str, row))
    scored = [result["tables"][0]["groups"]["all"]["accuracy"] for result in results.values()]
    table.add_row("mean", "", "", f"{sum(scored) / len(scored):.1f}")
    Console().print(table)
    return results


def _model(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    results = transfer_model(
        args.learned,
        [load_config(path) for path in args.configs],
        args.work_dir,
        config=args.config,
        as_heldout=args.as_heldout,
        launcher=args.launcher,
    )
    tables = [scores for result in results.values() for scores in result["tables"]]
    columns = [key for key in _SCORES if any(key in scores["groups"]["all"] for scores in tables)]
    table = Table("protocol", "names", "images", *(_SCORES[key] for key in columns), title=args.learned)
    for scores in tables:
        whole = scores["groups"]["all"]
        cells = ["-" if whole.get(key) is None else f"{whole[key]:.1f}" for key in columns]
        table.add_row(scores["protocol"], str(whole["classes"]), str(scores["images"]), *cells)
    Console().print(table)
    return results


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, FileExistsError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
