"""Make the annotation files and label maps of a protocol from a data set's official ones.

python tools/prepare_data.py coco-ovd --root data/coco
python tools/prepare_data.py lvis-ovd --root data/lvis_v1
python tools/prepare_data.py voc07 --root data/VOCdevkit/VOC2007
python tools/prepare_data.py voc-zss --root data/VOCdevkit --workers 8
python tools/prepare_data.py cocostuff-zss --root data/coco_stuff164k --workers 8
python tools/prepare_data.py context-zss --root data/VOCdevkit/VOC2010 --workers 8
"""

import argparse
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

from subpt_dense.datasets import (
    write_coco_ovd,
    write_coco_stuff_zss,
    write_context_zss,
    write_lvis_ovd,
    write_voc07,
    write_voc_zss,
)

# job: (what makes it, default folder, what the folder holds, what is made)
JOBS: dict[str, tuple[Callable[..., Any], str, str, str]] = {
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
    "voc-zss": (
        write_voc_zss,
        "data/VOCdevkit",
        "VOC2012/ and VOCaug/",
        "VOC 2012 with SBD, 15 seen / 5 unseen: label maps and the list of 10,582 training images",
    ),
    "cocostuff-zss": (
        write_coco_stuff_zss,
        "data/coco_stuff164k",
        "annotations/",
        "COCO-Stuff, 156 seen / 15 unseen: label maps of the 171 classes in use",
    ),
    "context-zss": (
        write_context_zss,
        "data/VOCdevkit/VOC2010",
        "ImageSets/Main/, trainval/ and labels.txt",
        "Pascal Context, 49 seen / 10 unseen: label maps of 59 classes; and of all 459, for transfer",
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one job; errors say what is missing and where it is to be had."""
    parser = argparse.ArgumentParser(
        description="Make the annotation files and label maps of a protocol; see data/README.md."
    )
    jobs = parser.add_subparsers(dest="job", required=True)
    for name, (make, root, holds, made) in JOBS.items():
        job = jobs.add_parser(name, help=made)
        job.add_argument("--root", default=root, help=f"folder that holds {holds} (default: %(default)s)")
        if "workers" in inspect.signature(make).parameters:
            job.add_argument("--workers", type=int, default=4, help="processes (default: %(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        more = {"workers": options.workers} if "workers" in options else {}
        JOBS[options.job][0](options.root, **more)
    except (FileNotFoundError, ValueError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
