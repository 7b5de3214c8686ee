"""Tests a learned prompt elsewhere: ``python tools/transfer.py work_dirs/cls_imagenet_coop/prompt.safetensors
configs/cls_imagenetv2_template.py configs/cls_dtd_template.py``."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from subpt_dense.apis import load_config, transfer
from subpt_dense.datasets import write_json


def main() -> None:
    """Parse, test, print a line for each data set and the mean, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompt", help="prompt file of a run, prompt.safetensors")
    parser.add_argument("configs", nargs="+", help="configs of the data sets to test on")
    parser.add_argument(
        "--as-heldout",
        action="store_true",
        help="take an NFL prompt whose extra names are evaluated here; results say so",
    )
    parser.add_argument("--work-dir", default="work_dirs/transfer", help="(default: %(default)s)")
    parser.add_argument("--out", metavar="FILE.json", help="(default: transfer.json in the work dir)")
    args = parser.parse_args()
    results = transfer(
        args.prompt, [load_config(path) for path in args.configs], args.work_dir, as_heldout=args.as_heldout
    )
    table = Table("data set", "names", "images", "accuracy", title=args.prompt)
    for result in results.values():
        (scores,) = result["tables"]
        whole = scores["groups"]["all"]
        row = (scores["details"]["data_set"], whole["classes"], scores["images"], f"{whole['accuracy']:.1f}")
        table.add_row(*map(str, row))
    scored = [result["tables"][0]["groups"]["all"]["accuracy"] for result in results.values()]
    table.add_row("mean", "", "", f"{sum(scored) / len(scored):.1f}")
    Console().print(table)
    write_json(args.out or Path(args.work_dir) / "transfer.json", results, indent=1)


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, FileExistsError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
