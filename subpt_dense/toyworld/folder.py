"""What every command that writes a toy world shares: one world a folder, crops by class, class names."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from subpt_dense.toyworld.clip import write_checkpoint
from subpt_dense.toyworld.concepts import Concept, all_concepts
from subpt_dense.toyworld.crops import render_crops


def fill_folder(root: str | os.PathLike[str], asked: Mapping[str, Any], write: Callable[[Path], None]) -> bool:
    """Write a world into a folder of its own, on one thread, unless it is there already.

    Args:
        root: Folder to fill; made if missing.
        asked: Everything that decides what is written, as JSON has it; kept in ``world.json``. ``clip_seeds`` names the
            tiny CLIPs, which are brought up to date beside an older world too.
        write: Called with the folder; writes all but the CLIPs and the manifest.

    Returns:
        False if the same world was there already.

    Raises:
        FileExistsError: If ``root`` holds another world.
    """
    root = Path(root)
    manifest = root / "world.json"
    found = json.loads(manifest.read_text()) if manifest.exists() else None
    if found not in (None, asked):
        raise FileExistsError(
            f"{root} must be empty or hold the same toy world {asked}. Got {found}. Choose another folder."
        )
    root.mkdir(parents=True, exist_ok=True)
    for seed in asked["clip_seeds"]:
        write_checkpoint(seed, root)  # also beside an older world: the shipped weights may be new
    if found == asked:
        return False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are small: a second thread would mostly wait, for minutes on a busy machine
    try:
        write(root)
    finally:
        torch.set_num_threads(threads)
    write_text(manifest, json.dumps(asked))  # last: a world cut short is made again
    return True


def write_class_names(root: Path, base: Sequence[Concept], novel: Sequence[Concept]) -> None:
    """``split.json``, who is base and who is novel, and ``names_generic.txt``, the combinations in neither."""
    split: dict[str, Any] = {"name": "toy", "base": [c.name for c in base], "novel": [c.name for c in novel]}
    write_text(root / "split.json", json.dumps(split, indent=1))
    unused = [c.name for c in all_concepts() if c not in {*base, *novel}]
    write_text(root / "names_generic.txt", "\n".join(unused) + "\n")


def write_crops(folder: Path, classes: Sequence[Concept], per_class: int, seed: int, domain: str) -> None:
    """``<folder>/<class_name>/0001.png``, 64x64, and so on; equal arguments give equal pixels."""
    for index, concept in enumerate(classes if per_class else ()):
        images = render_crops(torch.tensor([concept] * per_class), seed * 10**6 + index, domain)
        for number, image in enumerate(images.permute(0, 2, 3, 1).numpy(), start=1):
            write_png(folder / concept.name.replace(" ", "_") / f"{number:04d}.png", image[:, :, ::-1])


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """A picture, BGR or of one channel; its folder is made.

    Raises:
        OSError: If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise OSError(f"{path} could not be written. Check that the folder is writable and the disk is not full.")


def write_text(path: Path, text: str) -> None:
    """A text file, atomically; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    os.replace(partial, path)
