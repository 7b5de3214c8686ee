"""Make the annotation files of a protocol from a data set's official ones.

python tools/prepare_data.py coco-ovd --root data/coco
"""

import argparse
import logging
from collections.abc import Sequence

from subpt_dense.datasets import write_coco_ovd


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one job; errors say what is missing and where it is to be had."""
    parser = argparse.ArgumentParser(description="Make the annotation files of a protocol; see data/README.md.")
    jobs = parser.add_subparsers(dest="job", required=True)
    coco = jobs.add_parser("coco-ovd", help="COCO-OVD, 48 base / 17 novel: training and evaluation annotations")
    coco.add_argument("--root", default="data/coco", help="folder that holds annotations/ (default: %(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        write_coco_ovd(options.root)
    except (FileNotFoundError, ValueError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
