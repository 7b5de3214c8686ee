"""Writes the toy world's classification crops: ``python -m subpt_dense.toyworld.crop_world --root data/toy_cls``.

::

    data/toy_cls/
      crops/train/<class>/   64x64 PNG, base classes: what few-shot draws are taken from
      crops/val/<class>/     base classes: for choices, such as the epoch to keep
      crops/test/<class>/    all 65 classes: for results
      split.json  names_generic.txt   who is base, who is novel; the names in neither
      clip_seed{0,1,2}.pt    the tiny CLIPs, as open_clip checkpoints
      world.json             what was asked for; a folder that holds something else is refused

The classes are those of :func:`subpt_dense.toyworld.concepts.neighbour_split`, harder to tell apart than the scenes'.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import MMLogger

from subpt_dense.toyworld.clip import CLIP_SEEDS
from subpt_dense.toyworld.concepts import neighbour_split
from subpt_dense.toyworld.folder import fill_folder, write_class_names, write_crops
from subpt_dense.toyworld.render import DOMAINS

_FORMAT = "crops-1"


def build_crop_world(
    root: str | os.PathLike[str],
    *,
    domain: str = "tint",
    split_seed: int = 0,
    train: int = 16,
    val: int = 20,
    test: int = 40,
    clip_seeds: Sequence[int] = CLIP_SEEDS,
) -> bool:
    """Write crops, name lists and CLIP checkpoints under ``root``.

    Every split has pictures of its own, whatever classes it shares with another.

    Args:
        root: Folder to fill.
        domain: Look of every picture, a key of :data:`subpt_dense.toyworld.render.DOMAINS`.
        split_seed: Which base/novel split, >= 0.
        train: Training crops a base class.
        val: Validation crops a base class.
        test: Test crops a class, base and novel.
        clip_seeds: Tiny CLIPs to write.

    Returns:
        False if the same world was there already and nothing was done.

    Raises:
        FileExistsError: If ``root`` holds another world.
        ValueError: If the domain is unknown or the split's seed negative.
    """
    if domain not in DOMAINS:
        raise ValueError(f"`domain` of a crop world must be one of {', '.join(DOMAINS)}. Got {domain!r}.")
    if split_seed < 0:
        raise ValueError(f"`split_seed` of a crop world must be at least 0. Got {split_seed}.")
    asked = {"format": _FORMAT, "train": train, "val": val, "test": test}
    asked |= {"split_seed": split_seed, "domain": domain, "clip_seeds": list(clip_seeds)}

    def write(folder: Path) -> None:
        base, novel = neighbour_split(split_seed)
        write_class_names(folder, base, novel)
        parts = (("train", base, train), ("val", base, val), ("test", [*base, *novel], test))
        for number, (part, classes, count) in enumerate(parts):
            # 10 and above: the crops of the world of scenes have seeds below
            write_crops(folder / "crops" / part, classes, count, 10 * (split_seed + 1) + number, domain)

    return fill_folder(root, asked, write)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("data/toy_cls"))
    parser.add_argument("--domain", choices=sorted(DOMAINS), default="tint", help="look of every picture")
    parser.add_argument("--split", type=int, default=0, help="seed of the base/novel split")
    args = parser.parse_args()
    start, logger = time.time(), MMLogger.get_instance("toyworld", log_level="INFO")
    made = build_crop_world(args.root, domain=args.domain, split_seed=args.split)
    logger.info(f"{args.root}: {'written' if made else 'already there'} ({time.time() - start:.1f} s)")


if __name__ == "__main__":
    main()
