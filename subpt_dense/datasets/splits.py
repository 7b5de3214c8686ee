"""Which class names are base (seen in training) and which are novel."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from subpt_dense.datasets.name_lists import VOC, lvis_v1, objects365
from subpt_dense.datasets.zss_splits import TRANSFER, ZERO_SHOT, zero_shot_names
from subpt_dense.text import check_names, clean_name

GROUPS = ("base", "novel", "all")

# COCO's category ids and official names; the split of Bansal et al., "Zero-Shot Object Detection", ECCV 2018.
_COCO_OVD_BASE = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 7: "train", 8: "truck", 9: "boat", 15: "bench",
    16: "bird", 19: "horse", 20: "sheep", 23: "bear", 24: "zebra", 25: "giraffe", 27: "backpack", 31: "handbag",
    33: "suitcase", 34: "frisbee", 35: "skis", 38: "kite", 42: "surfboard", 44: "bottle", 48: "fork",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli",
    57: "carrot", 59: "pizza", 60: "donut", 62: "chair", 65: "bed", 70: "toilet", 72: "tv", 73: "laptop",
    74: "mouse", 75: "remote", 78: "microwave", 79: "oven", 80: "toaster", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 90: "toothbrush",
}  # fmt: skip
_COCO_OVD_NOVEL = {
    5: "airplane", 6: "bus", 17: "cat", 18: "dog", 21: "cow", 22: "elephant", 28: "umbrella", 32: "tie",
    36: "snowboard", 41: "skateboard", 47: "cup", 49: "knife", 61: "cake", 63: "couch", 76: "keyboard",
    81: "sink", 87: "scissors",
}  # fmt: skip
_COCO_REST = {
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 37: "sports ball",
    39: "baseball bat", 40: "baseball glove", 43: "tennis racket", 46: "wine glass", 58: "hot dog",
    64: "potted plant", 67: "dining table", 77: "cell phone", 88: "teddy bear", 89: "hair drier",
}  # fmt: skip


@dataclass(frozen=True)
class ClassSplit:
    """Base and novel class names, each in label order.

    Args:
        name: What the split is called; written into results.
        base: Names trained on; at least one.
        novel: Names seen in evaluation only; at least one.
        ids: The data set's own category ids of ``base + novel``, in that order, or empty where the names alone decide.
        transfer: Whether the set is only tested on, by a model trained elsewhere, so that one group may be empty. Of
            the built-in ones and of a mapping with ``names``, all names stand in ``base`` and nobody is novel.

    Raises:
        ValueError: If a group is empty, a name is blank or repeated, in one group or across both, or ``ids`` has
            another length.
    """

    name: str
    base: tuple[str, ...]
    novel: tuple[str, ...]
    ids: tuple[int, ...] = ()
    transfer: bool = False

    def __post_init__(self) -> None:
        """Check the names; lists become tuples."""
        for group, other in (("base", self.novel), ("novel", self.base)):
            names = getattr(self, group)
            if names or not (self.transfer and other):
                names = check_names(names, owner=f"group {group!r} of split {self.name!r}")
            object.__setattr__(self, group, tuple(names))
        base = {clean_name(name).casefold() for name in self.base}
        both = [name for name in self.novel if clean_name(name).casefold() in base]
        if both:
            raise ValueError(
                f"`novel` of split {self.name!r} must share no name with `base`. Got {', '.join(map(repr, both))} in "
                "both."
            )
        object.__setattr__(self, "ids", tuple(self.ids))
        if self.ids and len(self.ids) != len(self.all):
            raise ValueError(
                f"`ids` of split {self.name!r} must be empty or hold one id for each of the {len(self.all)} names. Got "
                f"{len(self.ids)}."
            )

    @property
    def all(self) -> tuple[str, ...]:
        """Base names, then novel names: the label order of a classifier that holds both."""
        return self.base + self.novel

    def group(self, group: str) -> tuple[str, ...]:
        """The names of ``"base"``, ``"novel"`` or ``"all"``.

        Raises:
            ValueError: If the group is another, or has no names.
        """
        groups = tuple(name for name in GROUPS if getattr(self, name))
        if group not in groups:
            raise ValueError(
                f"`group` of split {self.name!r} must be one of {', '.join(map(repr, groups))}. Got {group!r}."
            )
        return getattr(self, group)


def _coco_ovd() -> ClassSplit:
    ids = (*_COCO_OVD_BASE, *_COCO_OVD_NOVEL)
    return ClassSplit("coco_ovd", tuple(_COCO_OVD_BASE.values()), tuple(_COCO_OVD_NOVEL.values()), ids)


def _coco80() -> ClassSplit:
    """COCO's 80 names under its own ids, ascending."""
    names = dict(sorted((_COCO_OVD_BASE | _COCO_OVD_NOVEL | _COCO_REST).items()))
    return ClassSplit("coco80", tuple(names.values()), (), tuple(names), transfer=True)


def _lvis_v1() -> ClassSplit:
    """Base: frequent and common (866); novel: rare (337); each in id order (Gu et al., ViLD, arXiv 2104.13921)."""
    rare = [(i, name) for i, (name, frequency) in enumerate(lvis_v1(), start=1) if frequency == "r"]
    rest = [(i, name) for i, (name, frequency) in enumerate(lvis_v1(), start=1) if frequency != "r"]
    base, novel = (tuple(name for _, name in group) for group in (rest, rare))
    return ClassSplit("lvis_v1", base, novel, tuple(i for i, _ in (*rest, *rare)))


def _semantic(name: str) -> ClassSplit:
    """Of label maps: ``ids`` are the numbers in them."""
    return ClassSplit(name, *zero_shot_names(name), transfer=name in TRANSFER)


_BUILT_IN: dict[str, Callable[[], ClassSplit]] = {
    "coco_ovd": _coco_ovd,
    "lvis_v1": _lvis_v1,
    "coco80": _coco80,
    "voc07": lambda: ClassSplit("voc07", tuple(VOC.values()), (), transfer=True),
    "objects365_v1": lambda: ClassSplit("objects365_v1", objects365("v1"), (), transfer=True),
    "objects365_v2": lambda: ClassSplit("objects365_v2", objects365("v2"), (), transfer=True),
    **{name: partial(_semantic, name) for name in (*ZERO_SHOT, *TRANSFER)},
}


@cache
def _built_in(name: str) -> ClassSplit:
    return _BUILT_IN[name]()


def is_built_in(name: Any) -> bool:
    """Whether ``name`` is a split that needs no file."""
    return isinstance(name, str) and name in _BUILT_IN


def get_split(split: "str | Path | ClassSplit | Mapping[str, Any]") -> ClassSplit:
    """The split of that name, or the one written in a JSON file.

    Args:
        split: One of

            - ``"coco_ovd"`` (48 base / 17 novel) or ``"lvis_v1"`` (866 / 337), ids ascending within each group;
            - ``"coco80"``, ``"voc07"``, ``"objects365_v1"`` or ``"objects365_v2"``: sets for transfer, nobody is novel;
            - ``"voc_zss"`` (15 seen / 5 unseen), ``"coco_stuff_zss"`` (156 / 15), ``"context_zss"`` (49 / 10) or
              ``"context60_zss"`` (with the background, 50 / 10) for segmentation; ``"voc20"``, ``"pc59"``, ``"pc459"``,
              ``"ade150"`` or ``"ade847"``, nobody is unseen; ``ids`` are the numbers in the label maps;
            - a path to a JSON file ``{"name": ..., "base": [...], "novel": [...]}``, or ``{"name": ..., "names":
              [...]}`` of a set for transfer (``"ids"`` optional), or such a mapping;
            - a classification set on disk, ``dict(set="caltech101", data_root="data")``
              (:func:`~subpt_dense.datasets.class_split_of`);
            - a split.

    Raises:
        ValueError: If no built-in split has the name and it is no ``.json`` path, or the content is not a split.
        FileNotFoundError: If the JSON file, or the set's list, does not exist.
    """
    if isinstance(split, ClassSplit):
        return split
    if isinstance(split, Mapping) and "set" in split:
        from subpt_dense.datasets.base_to_novel import class_split_of  # it reads lists that are made of splits

        return class_split_of(split)
    if isinstance(split, Mapping):
        return _from_mapping(split, source="a mapping")
    if is_built_in(split):
        return _built_in(str(split))
    if not isinstance(split, (str, Path)) or Path(split).suffix != ".json":
        built_in = ", ".join(map(repr, _BUILT_IN))
        raise ValueError(
            f"`split` must be one of {built_in}, or a path to a .json file with `name`, `base` and `novel`. Got "
            f"{split!r}."
        )
    path = Path(split)
    if not path.is_file():
        raise FileNotFoundError(
            f"`split` names the file {path}, which does not exist. Write it, or give a built-in split: "
            f"{', '.join(_BUILT_IN)}."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise ValueError(f"Split file {path} must be JSON in UTF-8. Got: {error}.") from error
    return _from_mapping(content, source=f"file {path}")


def _from_mapping(content: Any, source: str) -> ClassSplit:
    undivided = isinstance(content, Mapping) and "names" in content
    keys = ("name", "names") if undivided else ("name", "base", "novel")
    optional = {"ids"} if undivided else {"ids", "transfer"}
    if not isinstance(content, Mapping) or not set(keys) <= set(content) <= {*keys, *optional}:
        found = sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(
            f"A split from {source} must hold `name`, `base`, `novel` and at most `ids` and `transfer`, or `name`, "
            f"`names` and at most `ids`. Got {found}."
        )
    name, ids, transfer = content["name"], content.get("ids", ()), content.get("transfer", undivided)
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"`name` of the split from {source} must be a non-empty string. Got {name!r}.")
    if not isinstance(ids, Sequence) or not all(type(i) is int for i in ids):
        raise ValueError(f"`ids` of the split from {source} must be a list of integers. Got {ids!r}.")
    if not isinstance(transfer, bool):
        raise ValueError(f"`transfer` of the split from {source} must be true or false. Got {transfer!r}.")
    base, novel = (content["names"], ()) if undivided else (content["base"], content["novel"])
    try:
        return ClassSplit(name=name, base=base, novel=novel, ids=tuple(ids), transfer=transfer)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The split from {source} does not hold: {error}") from error
