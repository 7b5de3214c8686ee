"""The two annotation files of COCO-OVD, 48 base / 17 novel, made from COCO's own."""

import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from subpt_dense.datasets.files import write_json
from subpt_dense.datasets.splits import get_split

# file made: (official file, group kept, images reported for it in the literature)
_FILES = {
    "instances_train2017_seen_2.json": ("instances_train2017.json", "base", 107_761),
    "instances_val2017_all_2.json": ("instances_val2017.json", "all", 4_836),
}


def write_coco_ovd(root: "str | Path" = "data/coco") -> dict[str, dict[str, int]]:
    """Write ``instances_train2017_seen_2.json`` and ``instances_val2017_all_2.json`` beside the official files.

    Training keeps the base annotations and the images with at least one; evaluation keeps the annotations of all 65
    names and the images with at least one (Bansal et al., ECCV 2018; file names by the convention of later work). Crowd
    boxes count as annotations. Everything else in the files stays as it is, each file is written atomically, and both
    official files are checked before either is written.

    Args:
        root: COCO's folder, with ``annotations/`` inside.

    Returns:
        For each file written: ``{"images": ..., "annotations": ..., "categories": ...}``.

    Raises:
        FileNotFoundError: If an official file is missing; names all that are.
        ValueError: If a file's categories are not COCO's.
    """
    logger = logging.getLogger(__name__)
    folder = Path(root) / "annotations"
    absent = [str(folder / source) for source, _, _ in _FILES.values() if not (folder / source).is_file()]
    if absent:
        raise FileNotFoundError(
            f"`root` of write_coco_ovd must hold COCO's official annotations. Missing: {', '.join(absent)}. "
            "They are in annotations_trainval2017.zip from https://cocodataset.org/#download."
        )
    counts: dict[str, dict[str, int]] = {}
    kept: dict[str, dict[str, Any]] = {}
    for target, (source, group, _) in _FILES.items():
        kept[target] = _read_group(folder / source, group)
    for target, (_, group, reported) in _FILES.items():
        content = kept.pop(target)
        write_json(folder / target, content)
        counts[target] = {key: len(content[key]) for key in ("images", "annotations", "categories")}
        found = counts[target]["images"]
        logger.info("%s: %s (%s names).", folder / target, counts[target], group)
        if found != reported:
            logger.warning(
                "%s has %d images, but %d are reported in the literature: do not compare numbers measured with it.",
                folder / target, found, reported,
            )  # fmt: skip
    return counts


def _read_group(path: Path, group: str) -> dict[str, Any]:
    """One official file, cut to the annotations of one group and the images that have any."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be COCO's JSON. Got: {error}. It may be cut short: fetch it again.") from error
    absent = [key for key in ("images", "annotations", "categories") if key not in content]
    if absent:
        raise ValueError(f"{path} must hold `images`, `annotations` and `categories`. Got no {', '.join(absent)}.")
    ids = _check_categories(content["categories"], path, group)
    content["categories"] = [category for category in content["categories"] if category["id"] in ids]
    content["annotations"] = [ann for ann in content["annotations"] if ann["category_id"] in ids]
    shown = {ann["image_id"] for ann in content["annotations"]}
    content["images"] = [image for image in content["images"] if image["id"] in shown]
    return content


def _check_categories(categories: Collection[dict[str, Any]], path: Path, group: str) -> set[int]:
    """The ids of the group's names, once every one of the 65 is found under COCO's own id."""
    split = get_split("coco_ovd")
    found = {category["id"]: category["name"] for category in categories}
    expected = dict(zip(split.ids, split.all, strict=True))
    wrong = [f"{i} is {found.get(i)!r}, not {name!r}" for i, name in expected.items() if found.get(i) != name]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(f"The categories of {path} must be COCO's (id and name). Got: {'; '.join(wrong[:5])}{more}.")
    names = set(split.group(group))
    return {i for i, name in expected.items() if name in names}
