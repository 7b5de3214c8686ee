"""Writes the toy world to disk in the real formats: ``python -m subpt_dense.toyworld.build --root data/toy``.

::

    data/toy/
      annotations/instances_train_seen.json   COCO json, 48 base classes
      annotations/instances_val_all.json      COCO json, all 65 classes
      train/ val/                             scenes, 128x128 PNG
      semantic/train/ semantic/val/           class index of every pixel, a line of semantic_classes.txt
      crops/train/<class>/ crops/val/<class>/ classification crops, 64x64 PNG
      split.json  names_generic.txt           who is base, who is novel; the 575 names in neither
      semantic_classes.txt                    the 65 classes, then the six grounds
      clip_seed{0,1,2}.pt                     the tiny CLIPs, as open_clip checkpoints
      world.json                              what was asked for; a folder that holds something else is refused
"""

import argparse
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from subpt_dense.toyworld.clip import CLIP_SEEDS
from subpt_dense.toyworld.concepts import GROUNDS, class_split
from subpt_dense.toyworld.folder import fill_folder, write_class_names, write_crops, write_png, write_text
from subpt_dense.toyworld.scenes import SCENE_SIZE, Scene, render_scenes

_FORMAT = 1


def build_world(
    root: str | os.PathLike[str],
    *,
    train: int = 2000,
    val: int = 300,
    train_crops: int = 16,
    val_crops: int = 20,
    split_seed: int = 0,
    domain: str = "src",
    clip_seeds: Sequence[int] = CLIP_SEEDS,
) -> bool:
    """Write scenes, crops, name lists and CLIP checkpoints under ``root``.

    Args:
        root: Folder to fill.
        train: Number of training scenes, which show base classes only.
        val: Number of validation scenes, with all classes.
        train_crops: Classification crops per base class.
        val_crops: Classification crops per class, all of them.
        split_seed: Which base/novel split.
        domain: Look of every picture, a key of :data:`subpt_dense.toyworld.render.DOMAINS`.
        clip_seeds: Tiny CLIPs to write.

    Returns:
        False if the same world was there already and nothing was done.

    Raises:
        FileExistsError: If ``root`` holds another world.
    """
    asked: dict[str, Any] = {
        "format": _FORMAT,
        "train": train,
        "val": val,
        "train_crops": train_crops,
        "val_crops": val_crops,
    }
    asked |= {"split_seed": split_seed, "domain": domain, "clip_seeds": list(clip_seeds)}
    return fill_folder(root, asked, lambda folder: _write_world(folder, asked))


def _write_world(root: Path, asked: dict[str, Any]) -> None:
    base, novel = class_split(asked["split_seed"])
    classes, domain = [*base, *novel], asked["domain"]
    write_class_names(root, base, novel)
    write_text(root / "semantic_classes.txt", "\n".join([*(c.name for c in classes), *GROUNDS]) + "\n")
    parts = (("train_seen", asked["train"], len(base), 1), ("val_all", asked["val"], len(classes), 2))
    for part, count, labels, seed in parts:
        folder = part.split("_")[0]
        scenes = render_scenes(classes, range(labels), count, seed, domain)
        coco = _write_scenes(root, folder, scenes, [c.name for c in classes[:labels]], len(classes))
        write_text(root / "annotations" / f"instances_{part}.json", json.dumps(coco))
    write_crops(root / "crops" / "train", base, asked["train_crops"], 3, domain)
    write_crops(root / "crops" / "val", classes, asked["val_crops"], 4, domain)


def _write_scenes(
    root: Path, folder: str, scenes: Iterable[Scene], names: Sequence[str], classes: int
) -> dict[str, Any]:
    """Write pictures and semantic maps; returns the COCO annotation dict."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes, start=1):
        file = f"{number:06d}.png"
        write_png(root / folder / file, scene.image[:, :, ::-1])
        write_png(root / "semantic" / folder / file, scene.semantic_map(classes))
        images.append({"id": number, "file_name": file, "width": SCENE_SIZE, "height": SCENE_SIZE})
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, **_region(mask)}
            )
    categories = [{"id": i, "name": name, "supercategory": name.split()[-1]} for i, name in enumerate(names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _region(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Box, area and run-length mask as COCO stores them."""
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    box = coco_mask.toBbox(encoded).tolist()
    encoded["counts"] = encoded["counts"].decode()
    return {"bbox": box, "area": int(mask.sum()), "iscrowd": 0, "segmentation": encoded}


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("data/toy"))
    parser.add_argument("--train", type=int, default=2000, help="training scenes")
    parser.add_argument("--val", type=int, default=300, help="validation scenes")
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument("--domain", default="src", help="look of every picture: src, tint or hue")
    args = parser.parse_args()
    start, logger = time.time(), MMLogger.get_instance("toyworld", log_level="INFO")
    made = build_world(args.root, train=args.train, val=args.val, split_seed=args.split_seed, domain=args.domain)
    logger.info(f"{args.root}: {'written' if made else 'already there'} ({time.time() - start:.1f} s)")


if __name__ == "__main__":
    main()
