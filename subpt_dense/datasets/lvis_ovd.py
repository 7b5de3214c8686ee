"""The training file of LVIS's open-vocabulary protocol, 866 base / 337 novel, made from the official one."""

import json
import logging
from pathlib import Path
from typing import Any

from subpt_dense.datasets.files import write_json
from subpt_dense.datasets.name_lists import lvis_v1

_MADE = "lvis_v1_train_base.json"
_IMAGES = {"lvis_v1_train.json": 100_170, "lvis_v1_val.json": 19_809}  # the published counts


def write_lvis_ovd(root: "str | Path" = "data/lvis_v1") -> dict[str, dict[str, int]]:
    """Write ``annotations/lvis_v1_train_base.json`` beside the official files.

    Kept are the categories that are frequent or common, their annotations, and the images with at least one; rare ones
    are novel (Gu et al., ViLD, arXiv 2104.13921). Everything else stays as it is. Evaluation takes the whole official
    ``lvis_v1_val.json``. Both official files are checked before anything is written: names, ids and frequencies, hence
    405 frequent, 461 common and 337 rare categories. Reading the training file takes several GB of memory.

    Args:
        root: LVIS's folder, with ``annotations/`` inside.

    Returns:
        For the file written: ``{"images": ..., "annotations": ..., "categories": ...}``.

    Raises:
        FileNotFoundError: If an official file is missing; names all that are.
        ValueError: If a file is damaged, or its categories are not LVIS v1's.
    """
    logger = logging.getLogger(__name__)
    folder = Path(root) / "annotations"
    absent = [str(folder / name) for name in _IMAGES if not (folder / name).is_file()]
    if absent:
        raise FileNotFoundError(
            f"`root` of write_lvis_ovd must hold LVIS's official annotations. Missing: {', '.join(absent)}. "
            "They are in lvis_v1_train.json.zip and lvis_v1_val.json.zip from https://www.lvisdataset.org/dataset."
        )
    for name in reversed(_IMAGES):  # the small one first; the large one is then at hand
        content = _read_official(folder / name)
        found = len(content["images"])
        if found != _IMAGES[name]:
            logger.warning(
                "%s has %d images, but the published file %d: do not compare numbers measured with it.",
                folder / name, found, _IMAGES[name],
            )  # fmt: skip
    content = _keep_base(content)
    write_json(folder / _MADE, content)
    counts = {key: len(content[key]) for key in ("images", "annotations", "categories")}
    logger.info("%s: %s (base names).", folder / _MADE, counts)
    return {_MADE: counts}


def _read_official(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be LVIS's JSON. Got: {error}. It may be cut short: fetch it again.") from error
    absent = [key for key in ("images", "annotations", "categories") if key not in content]
    if absent:
        raise ValueError(f"{path} must hold `images`, `annotations` and `categories`. Got no {', '.join(absent)}.")
    found = {category["id"]: (category["name"], category.get("frequency")) for category in content["categories"]}
    expected = dict(enumerate(lvis_v1(), start=1))
    wrong = [
        f"{i} is {found.get(i)}, not {expected.get(i)}"
        for i in {**expected, **found}
        if found.get(i) != expected.get(i)
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"The categories of {path} must be LVIS v1's (id, name and frequency). Got: {'; '.join(wrong[:5])}{more}."
        )
    return content


def _keep_base(content: dict[str, Any]) -> dict[str, Any]:
    ids = {i for i, (_, frequency) in enumerate(lvis_v1(), start=1) if frequency != "r"}
    content["categories"] = [category for category in content["categories"] if category["id"] in ids]
    content["annotations"] = [ann for ann in content["annotations"] if ann["category_id"] in ids]
    shown = {ann["image_id"] for ann in content["annotations"]}
    content["images"] = [image for image in content["images"] if image["id"] in shown]
    return content
