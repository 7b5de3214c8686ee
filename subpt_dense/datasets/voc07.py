"""PASCAL VOC 2007's test annotations in COCO's format, made from its XML."""

import logging
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from subpt_dense.datasets.files import write_json
from subpt_dense.datasets.name_lists import VOC

_MADE = "voc07_test.json"  # not in a folder `annotations`: some file systems take it for VOC's `Annotations`
_IMAGES, _OBJECTS = 4_952, 14_976  # of the published test set, difficult objects included


def write_voc07(root: "str | Path" = "data/VOCdevkit/VOC2007") -> dict[str, dict[str, int]]:
    """Write ``voc07_test.json``: the images of ``ImageSets/Main/test.txt``, one annotation an object.

    VOC counts pixels from 1 and includes the last one: a box from ``xmin`` to ``xmax`` starts at ``xmin - 1`` and is
    ``xmax - xmin + 1`` wide. Objects marked difficult become crowds, so that a detection of one is neither right nor
    wrong, as in VOC's own evaluation. Names are spelled as in prompts ("dining table", not "diningtable"); category ids
    are 1 to 20 in alphabetic order. The file is written atomically.

    Args:
        root: The folder ``VOC2007``, with ``Annotations/`` and ``ImageSets/`` of the test archive inside.

    Returns:
        For the file written: ``{"images": ..., "annotations": ..., "categories": ...}``.

    Raises:
        FileNotFoundError: If the list or an annotation file is missing.
        ValueError: If an annotation file is not VOC's.
    """
    logger, root = logging.getLogger(__name__), Path(root)
    listed = root / "ImageSets" / "Main" / "test.txt"
    if not listed.is_file():
        raise FileNotFoundError(
            f"`root` of write_voc07 must hold VOC 2007's test set. Missing: {listed}. It is in VOCtest_06-Nov-2007.tar "
            "from http://host.robots.ox.ac.uk/pascal/VOC/voc2007/."
        )
    names = listed.read_text(encoding="utf-8").split()
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(VOC.values(), start=1)],
    }
    for name in names:
        _add(content, root / "Annotations" / f"{name}.xml", name)
    write_json(root / _MADE, content)
    counts = {key: len(value) for key, value in content.items()}
    logger.info("%s: %s.", root / _MADE, counts)
    if (counts["images"], counts["annotations"]) != (_IMAGES, _OBJECTS):
        logger.warning(
            "%s has %d images and %d objects, but the published set has %d and %d: do not compare numbers measured "
            "with it.", root / _MADE, counts["images"], counts["annotations"], _IMAGES, _OBJECTS,
        )  # fmt: skip
    return {_MADE: counts}


def _add(content: dict[str, Any], path: Path, name: str) -> None:
    """One image and its objects."""
    if not path.is_file():
        raise FileNotFoundError(
            f"ImageSets/Main/test.txt lists {name}, but {path} does not exist: unpack the whole set."
        )
    try:
        tree = ElementTree.parse(path).getroot()
        size = {key: int(_text(tree, f"size/{key}")) for key in ("width", "height")}
        objects = [_object(node) for node in tree.iter("object")]
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path} must be an annotation file of VOC 2007. Got: {error}.") from error
    image_id = len(content["images"]) + 1
    content["images"].append({"id": image_id, "file_name": f"{name}.jpg", **size})
    for found in objects:
        content["annotations"].append({"id": len(content["annotations"]) + 1, "image_id": image_id, **found})


def _object(node: ElementTree.Element) -> dict[str, Any]:
    """Category, box (xywh, from 0), area, and whether it is difficult."""
    name = _text(node, "name")
    if name not in VOC:
        raise ValueError(f"an object is called {name!r}, which is none of VOC's 20 names")
    x1, y1, x2, y2 = (float(_text(node, f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
    width, height = x2 - x1 + 1, y2 - y1 + 1
    difficult = node.find("difficult")
    return {
        "category_id": list(VOC).index(name) + 1,
        "bbox": [x1 - 1, y1 - 1, width, height],
        "area": width * height,
        "iscrowd": int(difficult is not None and (difficult.text or "").strip() == "1"),
    }


def _text(node: ElementTree.Element, path: str) -> str:
    found = node.find(path)
    if found is None or not (found.text or "").strip():
        raise ValueError(f"{node.tag} has no {path}")
    return str(found.text).strip()
