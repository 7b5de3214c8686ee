"""VOC 2012's label maps with SBD's, for segmentation: one folder of training maps and the list of their images."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpt_dense.datasets.label_files import convert_maps, read_ids, read_mat, read_png, relabel, require_all, write_ids

_TRAIN, _VAL = 10_582, 1_449  # images of the published lists
_PUBLISHED = "SegmentationClass"
#: A folder of our own: mmseg's script fills ``SegmentationClassAug`` with SBD's maps, VOC's own images included.
_MADE, _LIST = "SegmentationClassZSS", "trainaug.txt"

# Background 0 and the 20 classes; 255 is the border of objects.
_NUMBERS = np.full(256, -1)
_NUMBERS[:21] = range(21)
_NUMBERS[255] = 255


def write_voc_zss(root: str | Path = "data/VOCdevkit", *, workers: int = 0) -> dict[str, dict[str, int]]:
    """Write ``VOC2012/SegmentationClassZSS/*.png`` and ``VOC2012/ImageSets/Segmentation/trainaug.txt``.

    Training images are VOC 2012's and SBD's (Hariharan et al., ICCV 2011) without VOC's validation images: 10,582.
    Where VOC has a map of its own it is taken, with its ignored borders; else SBD's. Numbers stay VOC's: 0 is the
    background, 1 to 20 the classes, 255 ignored. Maps that are there already are not made again. For validation no map
    is made: VOC's own in ``SegmentationClass`` are read as they are.

    Args:
        root: The folder ``VOCdevkit``, with ``VOC2012/`` (``ImageSets/Segmentation``, ``SegmentationClass``) and
            ``VOCaug/dataset/`` (``train.txt``, ``val.txt``, ``cls/*.mat``) inside.
        workers: Processes.

    Returns:
        For the folder made: ``{"train": ..., "val": ..., "made": ...}`` images; those of ``val`` lie elsewhere.

    Raises:
        FileNotFoundError: If a list or a map is missing, of validation too; names the first few.
        ValueError: If a map to copy is not as published; names it.
    """
    logger = logging.getLogger(__name__)
    voc, sbd = Path(root) / "VOC2012", Path(root) / "VOCaug" / "dataset"
    lists = voc / "ImageSets" / "Segmentation"
    require_all([lists / "train.txt", lists / "val.txt", sbd / "train.txt", sbd / "val.txt"], "lists of images")
    train, val = read_ids(lists / "train.txt"), read_ids(lists / "val.txt")
    all_train = sorted({*train, *read_ids(sbd / "train.txt"), *read_ids(sbd / "val.txt")} - {*val})
    own = sorted({*train})
    others = sorted({*all_train} - {*own})
    require_all((voc / _PUBLISHED / f"{name}.png" for name in val), "label maps of validation")
    made = convert_maps(
        [(voc / _PUBLISHED / f"{name}.png", voc / _MADE / f"{name}.png") for name in own], read_voc, workers=workers
    )
    made += convert_maps(
        [(sbd / "cls" / f"{name}.mat", voc / _MADE / f"{name}.png") for name in others], read_sbd, workers=workers
    )
    write_ids(lists / _LIST, all_train)
    counts = {"train": len(all_train), "val": len(val), "made": made}
    logger.info("%s: %s.", voc / _MADE, counts)
    if (counts["train"], counts["val"]) != (_TRAIN, _VAL):
        logger.warning(
            "%s has %d training and %d validation images, but the published lists %d and %d: do not compare numbers "
            "measured with it.", voc / _MADE, counts["train"], counts["val"], _TRAIN, _VAL,
        )  # fmt: skip
    return {_MADE: counts}


def read_voc(path: Path) -> NDArray[Any]:
    """A map of VOC 2012 ``[H, W]`` uint8: the palette's index.

    Raises:
        ValueError: If it is no image, or holds another number.
    """
    return relabel(read_png(path), _NUMBERS, path)


def read_sbd(path: Path) -> NDArray[Any]:
    """A map of SBD ``[H, W]`` uint8.

    Raises:
        ValueError: If it is no file of SBD's, or holds another number.
    """
    return relabel(read_mat(path, "GTcls", "Segmentation"), _NUMBERS, path)
