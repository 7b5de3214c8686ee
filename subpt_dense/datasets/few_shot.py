"""Few-shot draws: some images of each class, the same on every machine, kept as text (CoOp, arXiv 2109.01134, 4.1)."""

import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from subpt_dense.datasets.files import write_json
from subpt_dense.datasets.image_list import ImageList
from subpt_dense.datasets.split_file import Entry, check_entries, read_json

#: Validation images a class, at most.
MOST_VAL_SHOTS = 4
_FACTS = ("set", "shots", "seed", "source_sha256")
_KEYS = {*_FACTS, "train", "val"}


class FewShotDraw(NamedTuple):
    """What is trained on, and what choices may be made on. ``val`` is empty where nothing is left to draw it from."""

    train: ImageList
    val: ImageList


def draw_few_shot(images: ImageList, shots: int, seed: int) -> ImageList:
    """``shots`` images of each class, in label order.

    A class with fewer gives all it has, and a line in the log says so. The order of the draw hangs on the set's name,
    part, shots and seed, and each class's own images; on nothing of the machine or the Python version.

    Args:
        images: What is drawn from.
        shots: Images a class; at least 1.
        seed: Of the draw.

    Raises:
        ValueError: If ``shots`` or ``seed`` is out of range.
    """
    if type(shots) is not int or shots < 1:
        raise ValueError(f"`shots` of a few-shot draw must be a positive integer. Got {shots!r}.")
    if type(seed) is not int or seed < 0:
        raise ValueError(f"`seed` of a few-shot draw must be an integer >= 0. Got {seed!r}.")
    by_label: dict[int, list[Entry]] = {}
    for entry in sorted(images.images):
        by_label.setdefault(entry[1], []).append(entry)
    drawn: list[Entry] = []
    few = []
    for _, entries in sorted(by_label.items()):
        # random() of a string seed is what Python promises to keep; sample() and shuffle() it does not.
        rng = random.Random(f"{images.name}/{images.part}/{shots}/{seed}/{entries[0][2]}")
        order = sorted((rng.random(), entry) for entry in entries)
        drawn += [entry for _, entry in order[:shots]]
        if len(entries) < shots:
            few.append(f"{entries[0][2]} ({len(entries)})")
    if few:
        logging.getLogger(__name__).warning(
            "%s, %s: %d of %d classes have fewer than %d images and give all they have: %s.",
            images.name, images.part, len(few), len(by_label), shots, ", ".join(few[:5]) + (", ..." if few[5:] else ""),
        )  # fmt: skip
    return images.only(drawn)


def draw_path(folder: str | Path, name: str, shots: int, seed: int) -> Path:
    """Where a draw is kept: ``<folder>/few_shot/{set}_{shots}shot_seed{seed}.json``."""
    return Path(folder) / "few_shot" / f"{name}_{shots}shot_seed{seed}.json"


def load_or_draw(train: ImageList, val: ImageList | None, shots: int, seed: int, folder: str | Path) -> FewShotDraw:
    """The stored draw, or a new one, which is then stored.

    The file is JSON: ``set``, ``shots``, ``seed``, ``source_sha256`` (of the split file; ``null`` in a file of one's
    own is not compared), ``train`` and ``val``, both lists of ``[path, label, name]``. A file that somebody else wrote
    is taken as it is, once everything in it fits the set.

    Args:
        train: The whole training part.
        val: The whole validation part; None draws from the training images that are left over.
        shots: Images a class; ``min(shots, 4)`` for validation, as CoOp has it.
        seed: Of the draw.
        folder: See :func:`draw_path`.

    Raises:
        ValueError: If a stored draw is malformed, of another set, number or seed, or has images that the set does not
            have; both sides are named.
    """
    path = draw_path(folder, train.name, shots, seed)
    if path.is_file():
        return _load(path, train, val, shots, seed)
    drawn = draw_few_shot(train, shots, seed)
    most = min(shots, MOST_VAL_SHOTS)
    draw = FewShotDraw(drawn, draw_few_shot(_validation_pool(train, drawn, val), most, seed))
    facts = dict(zip(_FACTS, (train.name, shots, seed, train.source_sha256), strict=True))
    write_json(path, facts | {"train": draw.train.images, "val": draw.val.images}, indent=1)
    logging.getLogger(__name__).info(
        "few-shot draw: %d training and %d validation images in %s.", len(draw.train), len(draw.val), path
    )
    return draw


def _validation_pool(train: ImageList, drawn: ImageList, val: ImageList | None) -> ImageList:
    if val is not None:
        return val
    taken = {path for path, _, _ in drawn.images}
    return ImageList(
        train.name, "val", train.root, tuple(entry for entry in train.images if entry[0] not in taken), train.names,
        train.source, train.source_sha256,
    )  # fmt: skip


def _load(path: Path, train: ImageList, val: ImageList | None, shots: int, seed: int) -> FewShotDraw:
    content = read_json(path, "Few-shot draw")
    if not isinstance(content, dict) or set(content) != _KEYS:
        found = ", ".join(sorted(map(str, content))) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"Few-shot draw {path} must hold {', '.join(sorted(_KEYS))} and no other. Got {found}.")
    expected = dict(zip(_FACTS, (train.name, shots, seed, train.source_sha256), strict=True))
    for key, value in expected.items():
        if content[key] != value and not (key == "source_sha256" and content[key] is None):
            raise ValueError(
                f"`{key}` of few-shot draw {path} must be {value!r}, as {train.source} has it now. Got "
                f"{content[key]!r}. {_remedy(path)}"
            )
    drawn = _stored(content, "train", train, path, shots)
    return FewShotDraw(drawn, _stored(content, "val", _validation_pool(train, drawn, val), path, shots))


def _stored(content: dict[str, Any], part: str, images: ImageList, path: Path, shots: int) -> ImageList:
    """One part of a stored draw, once every entry of it is found in the set."""
    entries = check_entries(content[part], f"`{part}` of few-shot draw {path}")
    known = {entry[0]: entry for entry in images.images}
    for position, entry in enumerate(entries):
        if known.get(entry[0]) != entry:
            listed = f"it has {known[entry[0]]}" if entry[0] in known else "it has no such image"
            raise ValueError(
                f"Entry {position} of `{part}` of few-shot draw {path} must be an image of {images.source}: {listed}. "
                f"Got {entry}. {_remedy(path)}"
            )
    _check_numbers(entries, images, part, path, shots if part == "train" else min(shots, MOST_VAL_SHOTS))
    return images.only(sorted(entries, key=lambda entry: entry[1]))


def _check_numbers(entries: Sequence[Entry], images: ImageList, part: str, path: Path, shots: int) -> None:
    if len({entry[0] for entry in entries}) < len(entries):
        raise ValueError(f"`{part}` of few-shot draw {path} must hold each image once. Got one twice.")
    drawn, there = images.only(entries).counts(), images.counts()
    wrong = [f"{drawn[name]} of {name}" for name in drawn if drawn[name] not in (0, min(shots, there[name]))]
    if wrong:
        raise ValueError(
            f"`{part}` of few-shot draw {path} must hold {shots} images, or none, of each class that has so many. Got "
            f"{', '.join(wrong[:5])}. {_remedy(path)}"
        )


def _remedy(path: Path) -> str:
    return f"Remove {path.name} to draw anew, or keep draws elsewhere (`draw_dir`)."
