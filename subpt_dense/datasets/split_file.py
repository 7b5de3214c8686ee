"""Readers of the lists in which classification sets keep who belongs where: split files, variants, class names."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subpt_dense.datasets.image_sets import PARTS
from subpt_dense.text import check_names, clean_name

#: Path below the image folder, label, class name.
Entry = tuple[str, int, str]

# Two names stand twice in CLIP's list, and so in classnames.txt: two classes that no prompt could tell apart. The
# second of each pair takes another word of its own WordNet entry.
_TWINS = {"n04008634": "projectile", "n04355933": "sunglass"}


def read_split_file(path: str | Path) -> tuple[dict[str, list[Entry]], tuple[str, ...]]:
    """A ``split_zhou`` file: ``{"train": [[path, label, name], ...], "val": [...], "test": [...]}``.

    Returns:
        The entries of each part, in the file's order, and the class names in label order; names cleaned
        (:func:`subpt_dense.text.clean_name`).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON, has other keys, an entry is malformed, a label has two names or is missing, or a
            name two labels; names file and entry.
    """
    path = Path(path)
    content = read_json(path, "Split file")
    if not isinstance(content, dict) or set(content) != set(PARTS):
        found = ", ".join(sorted(map(str, content))) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"Split file {path} must hold the keys {', '.join(PARTS)} and no other. Got {found}.")
    parts = {part: check_entries(content[part], f"`{part}` of split file {path}") for part in PARTS}
    return parts, label_names([entry for part in PARTS for entry in parts[part]], f"split file {path}")


def check_entries(entries: Any, where: str) -> list[Entry]:
    """A list of ``[path, label, name]``, checked and with names cleaned.

    Raises:
        ValueError: If it is no list, or an entry is something else; names its position.
    """
    if not isinstance(entries, list):
        raise ValueError(f"{where} must be a list of [path, label, name]. Got {type(entries).__name__}.")
    checked: list[Entry] = []
    for position, entry in enumerate(entries):
        good = isinstance(entry, list) and len(entry) == 3
        good = good and isinstance(entry[0], str) and type(entry[1]) is int and isinstance(entry[2], str)
        if not (good and entry[0].strip() and entry[1] >= 0 and clean_name(entry[2])):
            raise ValueError(f"Entry {position} of {where} must be [path, label >= 0, name]. Got {entry!r}.")
        checked.append((entry[0].lstrip("/"), entry[1], clean_name(entry[2])))
    return checked


def label_names(entries: Sequence[Entry], where: str) -> tuple[str, ...]:
    """The class names in label order.

    Raises:
        ValueError: If a label has two names, labels do not run from 0 without a hole, or two labels share a name.
    """
    first: dict[int, Entry] = {}
    for entry in entries:
        known = first.setdefault(entry[1], entry)
        if known[2] != entry[2]:
            raise ValueError(
                f"Label {entry[1]} of {where} must have one name. Got {known[2]!r} for {known[0]} and {entry[2]!r} for "
                f"{entry[0]}."
            )
    holes = [label for label in range(max(first, default=-1) + 1) if label not in first]
    if holes or not first:
        found = f"no image of label {', '.join(map(str, holes[:5]))}" if holes else "no entries"
        raise ValueError(f"The labels of {where} must run from 0 without a hole. Got {found}.")
    return check_names([first[label][2] for label in range(len(first))], owner=where)


def read_variants(path: str | Path) -> tuple[str, ...]:
    """FGVC Aircraft's ``variants.txt``: a class name a line, in label order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it names no class, or one twice.
    """
    return check_names([clean_name(line) for _, line in _lines(Path(path))], owner=str(path))


def read_variant_images(path: str | Path, names: Sequence[str]) -> list[Entry]:
    """FGVC Aircraft's ``images_variant_*.txt``: an image number and a class name a line.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is something else, or its class is not in ``names``; names file and line.
    """
    labels = {name: label for label, name in enumerate(names)}
    entries = []
    for number, line in _lines(Path(path)):
        image, _, name = line.partition(" ")
        if clean_name(name) not in labels:
            raise ValueError(
                f"Line {number} of {path} must be an image number and one of the {len(names)} names of variants.txt. "
                f"Got {line!r}."
            )
        entries.append((f"{image}.jpg", labels[clean_name(name)], clean_name(name)))
    return entries


def read_class_names(path: str | Path) -> dict[str, str]:
    """ImageNet's ``classnames.txt``: a WordNet id and a class name a line, in label order.

    Returns:
        WordNet id to name. The two names that CLIP's list has twice are told apart: ``n04008634`` is "projectile"
        beside "missile", ``n04355933`` "sunglass" beside "sunglasses", where the file gives both the same.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is something else, or an id or name stands there twice; names file and line.
    """
    names: dict[str, str] = {}
    for number, line in _lines(Path(path)):
        wnid, _, name = line.partition(" ")
        if not clean_name(name) or wnid in names:
            wrong = "an id that an earlier line has" if wnid in names else "no name"
            raise ValueError(f"Line {number} of {path} must be a new WordNet id and a name. Got {wrong}: {line!r}.")
        names[wnid] = clean_name(name)
    for wnid, other in _TWINS.items():
        if list(names.values()).count(names.get(wnid, "")) > 1:
            names[wnid] = other
    check_names(tuple(names.values()), owner=str(path))
    return names


def read_json(path: Path, what: str) -> Any:
    """The content of a JSON file; errors name it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{what} {path} does not exist.") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise ValueError(f"{what} {path} must be JSON in UTF-8. Got: {error}.") from error


def _lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of the lines that are not blank."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return [(number, line) for number, line in enumerate(lines, start=1) if line]
