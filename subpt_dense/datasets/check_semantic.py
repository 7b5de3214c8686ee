"""What of a segmentation set is on disk: found, missing or malformed, and whether its size is the published one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from subpt_dense.datasets.check_sets import MALFORMED, MISSING, SetReport, add_problem
from subpt_dense.datasets.label_files import read_ids
from subpt_dense.datasets.splits import get_split

_NAMED = 5
#: Maps of a part that are opened where not all of them are.
_OPENED = 3


@dataclass(frozen=True)
class Part:
    """Where a part's images and label maps lie, below the set's folder."""

    images: str
    maps: str
    count: int
    listed: str = ""  # list of names without suffix; all files of the image folder where there is none


@dataclass(frozen=True)
class SemanticSet:
    """A segmentation set: layout, numbers in the maps, and where it is to be had."""

    root: str
    parts: dict[str, Part]
    source: str
    first: int = 0  # the number of the first class; 1 where 0 is no class
    map_suffix: str = ".png"
    ignored: int = 255


_VOC = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/; "
_CONTEXT = (
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/ and https://www.cs.stanford.edu/~roozbeh/pascal-context/; then "
    "python tools/prepare_data.py context-zss"
)
_VOC_LIST, _CONTEXT_LIST = "ImageSets/Segmentation", "ImageSets/SegmentationContext"
_CONTEXT_PARTS = {
    "train": Part("JPEGImages", "SegmentationClassContext", 4_998, f"{_CONTEXT_LIST}/train.txt"),
    "val": Part("JPEGImages", "SegmentationClassContext", 5_105, f"{_CONTEXT_LIST}/val.txt"),
}

#: By name of the split, which is also that of the data set in the configs.
SEMANTIC_SETS = {
    "voc_zss": SemanticSet(
        "VOCdevkit/VOC2012",
        {
            "train": Part("JPEGImages", "SegmentationClassZSS", 10_582, f"{_VOC_LIST}/trainaug.txt"),
            "val": Part("JPEGImages", "SegmentationClass", 1_449, f"{_VOC_LIST}/val.txt"),
        },
        _VOC + "SBD: http://home.bharathh.info/pubs/codes/SBD/download.html; then python tools/prepare_data.py voc-zss",
        first=1,
    ),
    "coco_stuff_zss": SemanticSet(
        "coco_stuff164k",
        {
            "train": Part("images/train2017", "annotations/train2017", 118_287),
            "val": Part("images/val2017", "annotations/val2017", 5_000),
        },
        "https://github.com/nightrome/cocostuff; then python tools/prepare_data.py cocostuff-zss",
        map_suffix="_labelTrainIds.png",
    ),
    "context_zss": SemanticSet("VOCdevkit/VOC2010", _CONTEXT_PARTS, _CONTEXT, first=1),
    "context60_zss": SemanticSet("VOCdevkit/VOC2010", _CONTEXT_PARTS, _CONTEXT),
    "voc20": SemanticSet(
        "VOCdevkit/VOC2012",
        {"val": Part("JPEGImages", "SegmentationClass", 1_449, f"{_VOC_LIST}/val.txt")},
        _VOC + "VOCtrainval_11-May-2012.tar",
        first=1,
    ),
    "pc59": SemanticSet("VOCdevkit/VOC2010", {"val": _CONTEXT_PARTS["val"]}, _CONTEXT, first=1),
    "pc459": SemanticSet(
        "VOCdevkit/VOC2010",
        {"val": Part("JPEGImages", "SegmentationClassContext459", 5_105, f"{_CONTEXT_LIST}/val.txt")},
        _CONTEXT,
        first=1,
        ignored=65_535,
    ),
    "ade150": SemanticSet(
        "ade/ADEChallengeData2016",
        {"val": Part("images/validation", "annotations/validation", 2_000)},
        "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
        first=1,
    ),
    "ade847": SemanticSet(
        "ADE20K_2021_17_01",
        {"val": Part("images_detectron2/validation", "annotations_detectron2/validation", 2_000)},
        "https://groups.csail.mit.edu/vision/datasets/ADE20K/; then MaskFormer's prepare_ade20k_full_sem_seg.py",
        map_suffix=".tif",
        ignored=65_535,
    ),
}


def check_semantic(
    name: str,
    root: str | Path = "data",
    *,
    images: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SetReport:
    """Look at one set without stopping at the first problem.

    Args:
        name: A key of :data:`SEMANTIC_SETS`.
        root: What the sets' folders lie in.
        images: Whether to open every label map; else a few of each part.
        progress: Called with the number of maps opened so far, and of all.

    Raises:
        ValueError: If there is no such set.
    """
    if name not in SEMANTIC_SETS:
        raise ValueError(f"A segmentation set must be one of {', '.join(SEMANTIC_SETS)}. Got {name!r}.")
    info = SEMANTIC_SETS[name]
    published = {part: where.count for part, where in info.parts.items()}
    report = SetReport(name, published=published, source=info.source)
    listed = {
        part: list(_maps(info, where, Path(root) / info.root, part, report)) for part, where in info.parts.items()
    }
    opened = [(part, path) for part, paths in listed.items() for path in (paths if images else paths[:_OPENED])]
    classes = len(get_split(name).all)
    for done, (_, path) in enumerate(opened, start=1):
        problem = _problem(path, info, classes)
        if problem:
            add_problem(report, MALFORMED, problem)
        if progress and (done % 100 == 0 or done == len(opened)):
            progress(done, len(opened))
    for part, count in report.images.items():
        if count != published[part]:
            report.remarks.append(f"{count:,} images of `{part}`, published: {published[part]:,}.")
    if any(listed.values()):
        report.classes = classes
    return report


def _maps(info: SemanticSet, where: Part, root: Path, part: str, report: SetReport) -> Iterator[Path]:
    """The label maps of a part that are there; what is not goes into the report."""
    folders = [root / where.images, root / where.maps]
    absent = [f"{folder}: no such folder" for folder in folders if not folder.is_dir()]
    if where.listed and not (root / where.listed).is_file():
        absent.append(f"{root / where.listed}: no such file")
    for line in absent:
        add_problem(report, MISSING, line)
    if absent:
        return
    found = [_stems(folders[0], ".jpg"), _stems(folders[1], info.map_suffix)]
    names = read_ids(root / where.listed) if where.listed else sorted(found[0])
    report.images[part] = len(names)
    for kind, there, folder in zip(("images", "label maps"), found, folders, strict=True):
        missing = [name for name in names if name not in there]
        if missing or not names:
            more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
            count = (
                f"{len(missing):,} of {len(names):,} {kind} of `{part}` are" if names else f"All {kind} of `{part}` are"
            )
            add_problem(report, MISSING, f"{count} not in {folder}: {', '.join(missing[:_NAMED])}{more}")
    yield from (folders[1] / f"{name}{info.map_suffix}" for name in names if name in found[1])


def _stems(folder: Path, suffix: str) -> set[str]:
    return {path.name.removesuffix(suffix) for path in folder.iterdir() if path.name.endswith(suffix)}


def _problem(path: Path, info: SemanticSet, classes: int) -> str | None:
    """Why a label map cannot be used, or None."""
    try:
        with Image.open(path) as image:
            mode, values = image.mode, np.array(image)
    except (OSError, SyntaxError) as error:
        return f"{path}: {type(error).__name__}: {error}"
    if values.ndim != 2:
        return f"{path}: mode {mode!r} has colours, not one number a pixel"
    numbers = np.unique(values)
    allowed = {info.ignored, *range(info.first + classes)}
    wrong = [int(number) for number in numbers if int(number) not in allowed]
    if wrong:
        return f"{path}: numbers {', '.join(map(str, wrong[:_NAMED]))} are of none of the {classes} classes"
    return None
