"""Class names of published data sets, as their annotation files have them; the long lists lie beside this file."""

import json
from functools import cache
from pathlib import Path
from typing import Any

#: LVIS v1: how many training images show a category. Rare 1 to 10, common 11 to 100, frequent more.
FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}

#: VOC's own names and, by each, how it is spelled in prompts and in the annotation file that we make.
VOC = {
    "aeroplane": "aeroplane", "bicycle": "bicycle", "bird": "bird", "boat": "boat", "bottle": "bottle", "bus": "bus",
    "car": "car", "cat": "cat", "chair": "chair", "cow": "cow", "diningtable": "dining table", "dog": "dog",
    "horse": "horse", "motorbike": "motorbike", "person": "person", "pottedplant": "potted plant", "sheep": "sheep",
    "sofa": "sofa", "train": "train", "tvmonitor": "tv monitor",
}  # fmt: skip


@cache
def lvis_v1() -> tuple[tuple[str, str], ...]:
    """(name, frequency) of LVIS v1's 1203 categories; the category ids are 1 to 1203, in this order.

    The frequency is ``"r"``, ``"c"`` or ``"f"``, see :data:`FREQUENCIES`: 337, 461 and 405 of them (arXiv 1908.03195;
    counted on ``lvis_v1_train.json``).
    """
    return tuple((name, frequency) for name, frequency in _read("lvis_v1.json"))


@cache
def objects365(version: str) -> tuple[str, ...]:
    """The 365 names of Objects365 ``"v1"`` or ``"v2"``, in id order, misprints and blanks included."""
    return tuple(_read("objects365.json")[version])


@cache
def coco_stuff() -> tuple[str, ...]:
    """COCO-Stuff's 171 names, things before stuff, in the order of the labels 0 to 170 (arXiv 1612.03716)."""
    return tuple(_read("coco_stuff.json"))


def _read(name: str) -> Any:
    return json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
