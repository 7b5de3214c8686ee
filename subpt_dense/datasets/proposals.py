"""Boxes to embed, from a COCO results file or from ground truth (I images, R regions)."""

import json
import logging
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
from numpy.typing import NDArray

ImageId = int | str

_CHUNK = 1 << 22
_GAP = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class Proposals:
    """The regions of many images, image by image.

    Attributes:
        image_ids: I ids, in the annotation file's order.
        files: Their files, relative to the image folder.
        sizes: ``[I, 2]`` int32, width and height in pixels.
        offsets: ``[I + 1]`` int64: image ``i`` has regions ``offsets[i]`` to ``offsets[i + 1]``.
        boxes: ``[R, 4]`` float32, x1 y1 x2 y2 in pixels of the original image.
        scores: ``[R]`` float32, falling within an image; 1.0 for ground truth.
    """

    image_ids: tuple[ImageId, ...]
    files: tuple[str, ...]
    sizes: NDArray[np.int32]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    def boxes_of(self, position: int) -> NDArray[np.float32]:
        """The boxes ``[N, 4]`` of the image at a position."""
        return self.boxes[self.offsets[position] : self.offsets[position + 1]]


def read_proposals(path: str | Path, annotations: str | Path, *, max_per_image: int = 300) -> Proposals:
    """The best-scored boxes of every image, from a COCO results file.

    The file is read piece by piece: one of tens of millions of rows needs memory for its numbers only.

    Args:
        path: JSON list of ``{"image_id": ..., "bbox": [x, y, width, height], "score": ...}``; other keys are ignored.
        annotations: COCO or LVIS annotation file, which says what the images are. An image without a row has no region.
        max_per_image: How many to keep, by score; among equals those that come first in the file.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file is of another format or cut short, a row is of an image that is not in ``annotations``, or
            a box is empty, not finite or wholly outside its image; names the file and the row, or the image and box.
    """
    if isinstance(max_per_image, bool) or not isinstance(max_per_image, int) or max_per_image < 1:
        raise ValueError(f"`max_per_image` of read_proposals must be an int of at least 1. Got {max_per_image!r}.")
    path, images = Path(path), _read_annotations(annotations)["images"]
    position = {image["id"]: at for at, image in enumerate(images)}
    owners, numbers = array("q"), array("d")
    for count, row in enumerate(_rows(path)):
        try:
            owner, (x, y, width, height), score = row["image_id"], row["bbox"], row["score"]
            numbers.extend((x, y, x + width, y + height, score))
        except (KeyError, TypeError, ValueError):
            expected = '{"image_id", "bbox": [x, y, width, height], "score"}'
            raise ValueError(f"Every row of {path} must be {expected}. Row {count} is {str(row)[:200]}.") from None
        if owner not in position:
            raise ValueError(
                f"Every row of {path} must be of an image in {annotations}. Row {count} is of image {owner!r}, which "
                "is not there: give the annotation file that the proposals were made for."
            )
        owners.append(position[owner])
    values = np.frombuffer(numbers, dtype=np.float64).reshape(-1, 5)
    if not np.isfinite(values[:, 4]).all():
        raise ValueError(f"Every score of {path} must be finite. Row {_first(~np.isfinite(values[:, 4]))} is not.")
    return _assemble(images, np.frombuffer(owners, dtype=np.int64), values, max_per_image, str(path))


def read_ground_truth(annotations: str | Path) -> Proposals:
    """The annotated boxes of every image, all of them, in the file's order and with score 1.0.

    Left out are crowds and ignored annotations, and what mmdet's ``CocoDataset`` drops as degenerate: no area, a side
    below one pixel, nothing of it in the image.

    Raises:
        FileNotFoundError, ValueError: As for :func:`read_proposals`.
    """
    content = _read_annotations(annotations)
    images = content["images"]
    position = {image["id"]: at for at, image in enumerate(images)}
    owners, values, dropped = [], [], 0
    for annotation in content["annotations"]:
        if annotation.get("iscrowd") or annotation.get("ignore"):
            continue
        try:
            at, (x, y, width, height) = position[annotation["image_id"]], annotation["bbox"]
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"Every annotation of {annotations} must have a `bbox` of four numbers and an `image_id` among its "
                f"images. Got {str(annotation)[:200]}."
            ) from None
        across = min(x + width, images[at]["width"]) - max(x, 0)
        down = min(y + height, images[at]["height"]) - max(y, 0)
        if annotation.get("area", 1) <= 0 or min(width, height) < 1 or min(across, down) <= 0:
            dropped += 1
            continue
        owners.append(at)
        values.append((x, y, x + width, y + height, 1.0))
    if dropped:
        logging.getLogger(__name__).warning("%s: left out %d degenerate boxes, as mmdet does.", annotations, dropped)
    table = np.array(values, dtype=np.float64).reshape(-1, 5)
    return _assemble(images, np.array(owners, dtype=np.int64), table, None, str(annotations))


def list_images(annotations: str | Path) -> list[dict[str, Any]]:
    """``id``, ``file`` (relative to the image folder), ``width`` and ``height`` of an annotation file's images.

    Raises:
        FileNotFoundError, ValueError: As for :func:`read_proposals`.
    """
    return [
        {"id": image["id"], "file": file_of(image), "width": image["width"], "height": image["height"]}
        for image in _read_annotations(annotations)["images"]
    ]


def check_boxes(proposals: Proposals, source: str) -> None:
    """Refuse boxes that cannot be cropped; one of which a part lies inside its image can.

    Raises:
        ValueError: If a box is not finite, empty or wholly outside its image; names the first, and ``source``.
    """
    boxes = proposals.boxes
    owners = np.repeat(np.arange(len(proposals.image_ids)), np.diff(proposals.offsets))
    empty = ~(np.isfinite(boxes).all(1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    width, height = proposals.sizes[owners].T
    outside = (boxes[:, 0] >= width) | (boxes[:, 1] >= height) | (boxes[:, 2] <= 0) | (boxes[:, 3] <= 0)
    for what, wrong in (("empty or not finite", empty), ("wholly outside the image", outside)):
        if wrong.any():
            at = _first(wrong)
            owner = owners[at]
            raise ValueError(
                f"Every box of {source} must be x1 < x2, y1 < y2 and have a part inside its image. Image "
                f"{proposals.image_ids[owner]!r} ({proposals.files[owner]}, {width[at]}x{height[at]}) has the box "
                f"{boxes[at].tolist()} (x1 y1 x2 y2), which is {what}; {int(wrong.sum())} are. Remove such rows."
            )


def _assemble(
    images: list[dict[str, Any]],
    owners: NDArray[np.int64],
    values: NDArray[np.float64],
    limit: int | None,
    source: str,
) -> Proposals:
    """Sort rows ``[R, 5]`` by image, then score (both stable), and cut."""
    order = np.lexsort((-values[:, 4], owners))
    counts = np.bincount(owners, minlength=len(images))
    starts = np.cumsum(counts) - counts
    if limit is not None:
        order = order[np.arange(len(order)) - starts[owners[order]] < limit]
        counts = np.minimum(counts, limit)
    proposals = Proposals(
        image_ids=tuple(image["id"] for image in images),
        files=tuple(file_of(image) for image in images),
        sizes=np.array([(image["width"], image["height"]) for image in images], dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=values[order, :4].astype(np.float32),
        scores=values[order, 4].astype(np.float32),
    )
    check_boxes(proposals, source)
    return proposals


def file_of(image: Mapping[str, Any]) -> str:
    """An image's file, relative to the image folder; LVIS has no ``file_name``, but COCO's URL of it."""
    return image.get("file_name") or urlparse(image["coco_url"]).path.lstrip("/")


def _read_annotations(path: str | Path) -> dict[str, Any]:
    """A COCO annotation file, of which the images are checked."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"The annotation file {path} does not exist.") from None
    except ValueError as error:
        raise ValueError(f"{path} must be COCO's JSON. Got: {error}. It may be cut short: fetch it again.") from error
    absent = [key for key in ("images", "annotations") if not isinstance(content, dict) or key not in content]
    if absent:
        raise ValueError(f"{path} must hold `images` and `annotations`. Got no {', '.join(absent)}.")
    if not content["images"]:
        raise ValueError(f"{path} must hold at least one image. Got none.")
    ids = set()
    for image in content["images"]:
        lacking = [key for key in ("id", "width", "height") if key not in image]
        lacking += [] if image.get("file_name") or image.get("coco_url") else ["file_name"]
        if lacking or image["id"] in ids:
            problem = f"lacks {', '.join(lacking)}" if lacking else "repeats an id"
            raise ValueError(
                f"Every image of {path} must have an `id` of its own, `file_name`, `width` and `height`. "
                f"{str(image)[:200]} {problem}."
            )
        ids.add(image["id"])
    return content


def _rows(path: Path) -> Iterator[Any]:
    """The rows of a JSON list, one after the other; never the whole file in memory."""
    decode = json.JSONDecoder().raw_decode
    try:
        file = path.open(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"The proposal file {path} does not exist.") from None
    with file:
        text, at = file.read(_CHUNK).lstrip(), 1
        if not text.startswith("["):
            raise ValueError(f"{path} must be a JSON list of COCO results. It begins with {text[:40]!r}.")
        while True:
            found = _GAP.match(text, at)
            at = found.end() if found else at
            if text.startswith("]", at):
                return
            try:
                row, at = decode(text, at)
            except ValueError as error:
                more = file.read(_CHUNK)
                if not more or len(text) - at > _CHUNK:  # no row is that long
                    end = "ends in" if not more else "has"
                    raise ValueError(
                        f"{path} must be a whole JSON list of COCO results. It {end} {text[at : at + 80]!r} ({error}). "
                        "It may be cut short: write it again."
                    ) from None
                text, at = text[at:] + more, 0
                continue
            yield row


def _first(wrong: NDArray[np.bool_]) -> int:
    return int(wrong.argmax())
