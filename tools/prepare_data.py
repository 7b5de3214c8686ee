"""Make the annotation files of a protocol from a data set's official ones.

python tools/prepare_data.py coco-ovd --root data/coco
python tools/prepare_data.py lvis-ovd --root data/lvis_v1
python tools/prepare_data.py voc07 --root data/VOCdevkit/VOC2007
"""

import argparse
import logging
from collections.abc import Sequence

from subpt_dense.datasets import write_coco_ovd, write_lvis_ovd, write_voc07

# job: (what makes it, default folder, what the folder holds, what is made)
JOBS = {
    "coco-ovd": (
        write_coco_ovd,
        "data/coco",
        "annotations/",
        "COCO-OVD, 48 base / 17 novel: training and evaluation annotations",
    ),
    "lvis-ovd": (
        write_lvis_ovd,
        "data/lvis_v1",
        "annotations/",
        "LVIS v1, 866 base / 337 novel: training annotations",
    ),
    "voc07": (
        write_voc07,
        "data/VOCdevkit/VOC2007",
        "Annotations/ and ImageSets/",
        "VOC 2007 test in COCO's format, for transfer",
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one job; errors say what is missing and where it is to be had."""
    parser = argparse.ArgumentParser(description="Make the annotation files of a protocol; see data/README.md.")
    jobs = parser.add_subparsers(dest="job", required=True)
    for name, (_, root, holds, made) in JOBS.items():
        job = jobs.add_parser(name, help=made)
        job.add_argument("--root", default=root, help=f"folder that holds {holds} (default: %(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        JOBS[options.job][0](options.root)
    except (FileNotFoundError, ValueError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
