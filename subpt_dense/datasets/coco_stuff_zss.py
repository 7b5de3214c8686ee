"""COCO-Stuff's label maps with the 171 labels that are in use, 0 to 170."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpt_dense.datasets.label_files import convert_maps, read_png, relabel
from subpt_dense.datasets.name_lists import coco_stuff

_IMAGES = {"train2017": 118_287, "val2017": 5_000}
_SUFFIX = "_labelTrainIds.png"
#: Ids (one less than in ``labels.txt``) that the maps do not use: COCO's eleven classes without annotations.
_UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)

_NUMBERS = np.full(256, -1)
_NUMBERS[[i for i in range(182) if i not in _UNUSED]] = range(len(coco_stuff()))
_NUMBERS[255] = 255


def write_coco_stuff_zss(root: str | Path = "data/coco_stuff164k", *, workers: int = 0) -> dict[str, dict[str, int]]:
    """Write ``*_labelTrainIds.png`` beside each map of ``annotations/train2017`` and ``annotations/val2017``.

    The published maps hold ids 0 to 181, eleven of them unused (arXiv 1612.03716); ours the positions of
    :func:`~subpt_dense.datasets.name_lists.coco_stuff`'s names, and 255 for what is unlabelled. The file names are
    mmseg's. Maps that are there already are not made again.

    Args:
        root: The folder with ``annotations/`` inside, unpacked from ``stuffthingmaps_trainval2017.zip``.
        workers: Processes.

    Returns:
        For each folder: ``{"images": ..., "made": ...}``.

    Raises:
        FileNotFoundError: If a folder is missing, or holds no map.
        ValueError: If a map is not as published; names it.
    """
    logger = logging.getLogger(__name__)
    sources = {part: _published(Path(root) / "annotations" / part) for part in _IMAGES}
    counts: dict[str, dict[str, int]] = {}
    for part, paths in sources.items():
        jobs = [(path, path.with_name(f"{path.stem}{_SUFFIX}")) for path in paths]
        counts[part] = {"images": len(jobs), "made": convert_maps(jobs, read_coco_stuff, workers=workers)}
        logger.info("%s: %s.", Path(root) / "annotations" / part, counts[part])
        if len(jobs) != _IMAGES[part]:
            logger.warning(
                "%s has %d maps, but the published set %d: do not compare numbers measured with it.",
                Path(root) / "annotations" / part, len(jobs), _IMAGES[part],
            )  # fmt: skip
    return counts


def read_coco_stuff(path: Path) -> NDArray[Any]:
    """A published map ``[H, W]`` uint8 with the numbers 0 to 170, and 255.

    Raises:
        ValueError: If it is no image, or holds an id that is not in use.
    """
    return relabel(read_png(path), _NUMBERS, path)


def _published(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.glob("*.png") if not path.name.endswith(_SUFFIX))
    if not found:
        raise FileNotFoundError(
            f"`root` of write_coco_stuff_zss must hold COCO-Stuff's maps. Got none in {folder}. They are in "
            "stuffthingmaps_trainval2017.zip, see https://github.com/nightrome/cocostuff."
        )
    return found
