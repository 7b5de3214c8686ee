"""Class names of published semantic label maps, in the order of the numbers in the maps, and their synonyms.

Where a data set lists synonyms, the first of them that is no other class's name is the class's name, and the others are
kept beside it (:func:`synonyms`) but not encoded: a learned prompt has one row a class, and scores of different prompts
compare only where all of them were given the same words. Averages over synonyms, as in OpenSeg, are another protocol.
``python tools/check_data.py ade150 --names`` lists both.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from subpt_dense.datasets.name_lists import VOC, coco_stuff

#: Pascal Context's 59 names and, by each, how it is spelled in prompts (Mottaghi et al., CVPR 2014; alphabetic, as in
#: mmseg: the numbers are 1 to 59 in the maps, where 0 is all else).
CONTEXT = {
    name: {"pottedplant": "potted plant", "tvmonitor": "tv monitor"}.get(name, name)
    for name in (
        "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle", "building",
        "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow", "cup", "curtain", "dog",
        "door", "fence", "floor", "flower", "food", "grass", "ground", "horse", "keyboard", "light", "motorbike",
        "mountain", "mouse", "person", "plate", "platform", "pottedplant", "road", "rock", "sheep", "shelves",
        "sidewalk", "sign", "sky", "snow", "sofa", "table", "track", "train", "tree", "truck", "tvmonitor", "wall",
        "water", "window", "wood",
    )
}  # fmt: skip


@cache
def ade20k(version: str) -> tuple[tuple[str, ...], ...]:
    """The synonyms of each class of ADE20K's ``"150"`` (its challenge's ``objectInfo150.txt``) or ``"847"`` classes.

    The 847 are the classes of the full set with labels in training and validation alike (MaskFormer, arXiv 2107.06278).
    """
    return tuple(tuple(names) for names in _read(f"ade{version}.json"))


@cache
def context459() -> tuple[str, ...]:
    """The 459 names of Pascal Context's ``labels.txt``, in the order of the numbers 1 to 459 in its ``.mat`` files."""
    return tuple(_read("pc459.json"))


@cache
def semantic_names(key: str) -> tuple[str, ...]:
    """The names of a set's classes, in the order of the numbers in its maps.

    Args:
        key: ``"voc20"``, ``"coco_stuff"``, ``"pc59"``, ``"pc60"`` (with the background), ``"pc459"``, ``"ade150"`` or
            ``"ade847"``.

    Raises:
        ValueError: If there is no such set.
    """
    if key not in _NAMES:
        raise ValueError(f"`key` of semantic_names must be one of {', '.join(_NAMES)}. Got {key!r}.")
    return _NAMES[key]()


def synonyms(key: str) -> dict[str, tuple[str, ...]]:
    """Each name of a set with the set's other words for it; no entry where there are none.

    Only ``"ade150"`` and ``"ade847"`` list any.
    """
    if key not in ("ade150", "ade847"):
        return {}
    pairs = zip(semantic_names(key), ade20k(key.removeprefix("ade")), strict=True)
    return {name: rest for name, words in pairs if (rest := tuple(word for word in words if word != name))}


def first_free(classes: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """One word a class, all of them distinct: its first, or the next that is nobody's.

    Of several classes with the same first word the one with the fewest words keeps it, the earlier one among equals.

    Args:
        classes: The words of each class, the best one first.

    Raises:
        ValueError: If a class has no word left.
    """
    owners: dict[str, int] = {}
    for index, words in sorted(enumerate(classes), key=lambda item: (len(item[1]), item[0])):
        owners.setdefault(words[0].casefold(), index)
    taken, chosen = set(owners), []
    for index, words in enumerate(classes):
        own = owners[words[0].casefold()] == index
        name = words[0] if own else next((word for word in words[1:] if word.casefold() not in taken), None)
        if name is None:
            raise ValueError(f"Class {index} must have a word of its own. Got {', '.join(words)}, all of others.")
        taken.add(name.casefold())
        chosen.append(name)
    return tuple(chosen)


_NAMES: dict[str, Callable[[], tuple[str, ...]]] = {
    "voc20": lambda: tuple(VOC.values()),
    "coco_stuff": coco_stuff,
    "pc59": lambda: tuple(CONTEXT.values()),
    "pc60": lambda: ("background", *CONTEXT.values()),
    "pc459": lambda: tuple(CONTEXT.get(name, name) for name in context459()),
    "ade150": lambda: first_free(ade20k("150")),
    "ade847": lambda: first_free(ade20k("847")),
}


def _read(name: str) -> list:
    return json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
