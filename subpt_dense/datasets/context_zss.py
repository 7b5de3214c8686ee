"""Pascal Context's label maps with 59 or with all 459 classes, made of the published MATLAB files."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpt_dense.datasets.label_files import convert_maps, read_ids, read_mat, relabel, require_all, write_ids
from subpt_dense.datasets.semantic_names import CONTEXT, context459

_IMAGES = {"train": 4_998, "val": 5_105}
_MADE, _MADE_ALL, _LISTS = "SegmentationClassContext", "SegmentationClassContext459", "SegmentationContext"


def write_context_zss(root: str | Path = "data/VOCdevkit/VOC2010", *, workers: int = 0) -> dict[str, dict[str, int]]:
    """Write the maps of 59 classes, of training and validation images, and those of 459, of validation images.

    ``SegmentationClassContext/*.png`` holds 1 to 59 in alphabetic order as in mmseg, and 0 for all else;
    ``SegmentationClassContext459/*.png`` 1 to 459, in 16 bits. ``ImageSets/SegmentationContext/{train,val}.txt`` list
    the images. Numbers are matched with names *by name*, from the published ``labels.txt``. Maps that are there already
    are not made again.

    Args:
        root: The folder ``VOC2010``, with ``ImageSets/Main/{train,val}.txt`` of VOC 2010, and ``trainval/*.mat`` and
            ``labels.txt`` of Pascal Context inside.
        workers: Processes.

    Returns:
        For each folder made: ``{"train": ..., "val": ..., "made": ...}`` images.

    Raises:
        FileNotFoundError: If a list or a map is missing; names the first few.
        ValueError: If ``labels.txt`` or a map is not as published; names it.
    """
    logger, root = logging.getLogger(__name__), Path(root)
    lists = root / "ImageSets" / "Main"
    require_all([root / "labels.txt", *(lists / f"{part}.txt" for part in _IMAGES)], "lists")
    check_labels(root / "labels.txt")
    parts = {part: read_ids(lists / f"{part}.txt") for part in _IMAGES}
    counts: dict[str, dict[str, int]] = {}
    for folder, names, whole in (
        (_MADE, [*parts["train"], *parts["val"]], False),
        (_MADE_ALL, parts["val"], True),
    ):
        jobs = [(root / "trainval" / f"{name}.mat", root / folder / f"{name}.png") for name in names]
        made = convert_maps(jobs, partial(read_context, whole=whole), workers=workers)
        counts[folder] = {"train": 0 if whole else len(parts["train"]), "val": len(parts["val"]), "made": made}
        logger.info("%s: %s.", root / folder, counts[folder])
    for part, names in parts.items():
        write_ids(root / "ImageSets" / _LISTS / f"{part}.txt", names)
        if len(names) != _IMAGES[part]:
            logger.warning(
                "%s has %d images of `%s`, but the published set %d: do not compare numbers measured with it.",
                root, len(names), part, _IMAGES[part],
            )  # fmt: skip
    return counts


def check_labels(path: Path) -> None:
    """Check that ``labels.txt`` has our 459 names under our numbers; blanks do not count.

    Raises:
        ValueError: If a line is not ``number: name``, or a number has another name.
    """
    found: dict[int, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        number, _, name = line.partition(":")
        if name.strip():
            if not number.strip().isdigit():
                raise ValueError(f"{path} must have lines `number: name`. Got {line!r}.")
            found[int(number)] = name
    expected = dict(enumerate(context459(), start=1))
    wrong = [
        f"{i} is {found.get(i, '').strip()!r}, not {name!r}"
        for i, name in expected.items()
        if _same(found.get(i, "")) != _same(name)
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(f"{path} must hold Pascal Context's 459 names. Got: {'; '.join(wrong[:5])}{more}.")


def read_context(path: Path, *, whole: bool) -> NDArray[Any]:
    """A published map ``[H, W]``: uint8 with 0 to 59, or with ``whole`` uint16 with 0 to 459.

    Raises:
        ValueError: If it is no file of Pascal Context's, or holds another number.
    """
    names = context459()
    table = np.arange(len(names) + 1)
    if not whole:
        ours = {name: number for number, name in enumerate(CONTEXT, start=1)}
        table = np.array([0, *(ours.get(name, 0) for name in names)])
    return relabel(read_mat(path, "LabelMap"), table, path)


def _same(name: str) -> str:
    return "".join(name.casefold().split())
