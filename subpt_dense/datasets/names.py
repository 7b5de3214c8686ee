"""Class names for text anchors: lists, files, generic vocabularies with every evaluated name removed."""

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from subpt_dense.datasets.splits import ClassSplit, get_split
from subpt_dense.text import check_names, clean_name, generic_names

_IRREGULAR_PLURALS = {
    "person": "people",
    "mouse": "mice",
    "man": "men",
    "woman": "women",
    "child": "children",
    "goose": "geese",
}
#: What tells a class from another of that name: LVIS's brackets, COCO-Stuff's endings.
_QUALIFIER = re.compile(r"\(.*?\)|-(?:stuff|other)\s*$", re.IGNORECASE)
_VOCABULARY_KEYS = {"vocabulary", "exclude", "limit", "seed"}
_SPLIT_KEYS = {"split", "group", "limit", "seed"}


def resolve_names(spec: "str | Path | Sequence[str] | Mapping[str, Any]") -> tuple[str, ...]:
    """The names a specification stands for, in its own order. Equal specifications give equal names on every machine.

    Args:
        spec: One of

            - a list of names;
            - a path to a ``.txt`` file, one name a line (blank lines and lines that start with ``#`` are skipped);
            - ``dict(vocabulary="imagenet" | <.txt path>, exclude=<split name, .json path or list of names>, limit=None,
              seed=0)``: a generic vocabulary without any name that equals an evaluated one or contains it as whole
              words, plurals and closed-up spelling included ("hot dog", "dogs" and "prairie dog" all go for "dog"); see
              :func:`remove_names`. What the words do not show stays: "golden retriever" is kept beside "dog";
            - ``dict(split=<split name or .json path>, group="base" | "novel" | "all")``.

            ``limit`` keeps at most that many, drawn with ``seed`` and left in order.

    Raises:
        ValueError: If the specification is none of these, has an unknown key, repeats a name, or leaves no name.
        FileNotFoundError: If a file does not exist.
    """
    if isinstance(spec, Mapping):
        return _resolve_mapping(spec)
    if isinstance(spec, (str, Path)):
        return check_names(_read_lines(spec, argument="names"), owner=f"file {spec}")
    if isinstance(spec, Sequence):
        return check_names(spec, owner="an anchor")
    raise ValueError(f"`names` must be a list of names, a .txt path or a dict. Got {type(spec).__name__} {spec!r}.")


def numbered_names(names: "str | Path | Sequence[str]") -> tuple[str, ...]:
    """Names whose position counts: that of number ``i`` is the ``i``-th.

    Args:
        names: A list, or the path to a ``.txt`` file with one name a line. Unlike in :func:`resolve_names` no line is
            skipped: every later name would get another number.

    Raises:
        ValueError: If a line before the last name is blank, a line starts with ``#``, or a name is repeated.
        FileNotFoundError: If the file does not exist.
    """
    if not isinstance(names, (str, Path)):
        return check_names(names, owner="`labels`")
    lines = _read_text(names, argument="labels").rstrip().splitlines()
    for i, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            raise ValueError(
                f"Every line of {names} must be a class name, for its position is the class's number. Got {line!r} in "
                f"line {i}. Take it out."
            )
    return check_names([line.strip() for line in lines], owner=f"file {names}")


def remove_names(names: Sequence[str], evaluated: Sequence[str]) -> tuple[str, ...]:
    """``names`` without those that equal, or contain as whole words, an evaluated name or its simple plural or
    singular.

    Case, underscores and hyphens do not count, nor do spaces ("cellphone" goes for "cell phone"). A qualifier does not
    protect a name: "fig" goes for LVIS's "fig_(fruit)", "desk" for COCO-Stuff's "desk-stuff", "water" for its
    "water-other". Nor does the order of words that a hyphen joins: "stone wall" goes for "wall-stone".
    """
    spelled = {spelling for name in evaluated for spelling in _spellings(name)}
    forbidden = {form for name in spelled if name.strip() for form in _forms("".join(_words(name)))}
    return tuple(name for name in names if forbidden.isdisjoint(_phrases(name)))


def _resolve_mapping(spec: Mapping[str, Any]) -> tuple[str, ...]:
    if ("vocabulary" in spec) == ("split" in spec):
        raise ValueError(
            f"`names` given as a dict must hold either `vocabulary` or `split`. Got the keys {sorted(spec)}."
        )
    allowed = _VOCABULARY_KEYS if "vocabulary" in spec else _SPLIT_KEYS
    unknown = sorted(set(spec) - allowed)
    if unknown:
        raise ValueError(
            f"`names` given as a dict may hold {', '.join(sorted(allowed))}. Got {', '.join(unknown)} as well."
        )
    if "split" in spec:
        names = get_split(spec["split"]).group(spec.get("group", "novel"))
    else:
        vocabulary = _vocabulary(spec["vocabulary"])
        names = remove_names(vocabulary, _excluded(spec.get("exclude")))
        if not names:
            raise ValueError(
                f"`exclude` must leave at least one of the {len(vocabulary)} names of {spec['vocabulary']!r}. Got none "
                f"left: take a larger vocabulary, or exclude less than {spec.get('exclude')!r}."
            )
    return _limit(names, spec.get("limit"), spec.get("seed", 0))


def _vocabulary(vocabulary: Any) -> tuple[str, ...]:
    if isinstance(vocabulary, Path) or (isinstance(vocabulary, str) and vocabulary.endswith(".txt")):
        first: dict[str, str] = {}
        for name in _read_lines(vocabulary, argument="vocabulary"):
            first.setdefault(clean_name(name).casefold(), name)
        return check_names(tuple(first.values()), owner=f"vocabulary {vocabulary}")
    return generic_names(vocabulary)


def _excluded(exclude: Any) -> tuple[str, ...]:
    if exclude is None:
        return ()
    if isinstance(exclude, (str, Path, Mapping, ClassSplit)):
        return get_split(exclude).all
    if isinstance(exclude, Sequence):
        return check_names(exclude, owner="`exclude`")
    raise ValueError(f"`exclude` must be a split name, a .json path or a list of names. Got {exclude!r}.")


def _limit(names: tuple[str, ...], limit: Any, seed: int) -> tuple[str, ...]:
    if limit is None:
        return names
    if type(limit) is not int or limit < 1:
        raise ValueError(f"`limit` must be a positive integer or None. Got {limit!r}.")
    if limit >= len(names):
        return names
    return tuple(names[i] for i in sorted(random.Random(seed).sample(range(len(names)), limit)))


def _read_lines(path: "str | Path", argument: str) -> list[str]:
    lines = (line.strip() for line in _read_text(path, argument).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _read_text(path: "str | Path", argument: str) -> str:
    if Path(path).suffix != ".txt":
        raise ValueError(
            f"`{argument}` given as a string must be a path to a .txt file with one name a line. Got {str(path)!r}."
        )
    if not Path(path).is_file():
        raise FileNotFoundError(f"`{argument}` names the file {path}, which does not exist.")
    return Path(path).read_text(encoding="utf-8-sig")


def _spellings(name: str) -> tuple[str, ...]:
    """A name, the name without its qualifier, and with the words that hyphens join in the other order."""
    return name, _QUALIFIER.sub("", name), " ".join(reversed(name.split("-")))


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.casefold())


def _phrases(name: str) -> set[str]:
    """Every run of consecutive words, closed up: "hot dog" gives hot, dog, hotdog."""
    words = _words(name)
    return {"".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}


def _forms(word: str) -> set[str]:
    """The word, its simple plurals, and its simple singulars where it ends in s."""
    forms = {word, f"{word}s", f"{word}es"}
    for singular, plural in _IRREGULAR_PLURALS.items():
        if word.endswith(singular):
            forms.add(word.removesuffix(singular) + plural)
        if word.endswith(plural):
            forms.add(word.removesuffix(plural) + singular)
    if word.endswith("y"):
        forms.add(f"{word[:-1]}ies")
    if word.endswith("f") or word.endswith("fe"):
        forms.add(f"{word.removesuffix('e')[:-1]}ves")
    if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        forms.add(word[:-1])
        for suffix, singular in (("es", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe")):
            if word.endswith(suffix):
                forms.add(word.removesuffix(suffix) + singular)
    return forms
