"""The concepts of the toy world: 8 colours x 5 patterns x 16 shapes, their words, and the class splits made of them."""

import random
from collections.abc import Sequence
from typing import NamedTuple

#: Colour name -> (hue, saturation, value), each in [0, 1].
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.0, 0.85, 0.85),
    "orange": (0.075, 0.9, 0.95),
    "yellow": (0.155, 0.85, 0.95),
    "green": (0.33, 0.75, 0.65),
    "cyan": (0.5, 0.75, 0.85),
    "blue": (0.62, 0.8, 0.8),
    "purple": (0.77, 0.7, 0.7),
    "pink": (0.91, 0.5, 0.95),
}
PATTERNS = ("plain", "striped", "dotted", "checkered", "framed")
SHAPES = (
    *("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart"),
    *("crescent", "hexagon", "arrow", "bar", "dome", "flower", "hourglass", "oval"),
)
#: Ground name -> (hue, saturation, value) of its mean colour.
GROUNDS: dict[str, tuple[float, float, float]] = {
    "grass": (0.30, 0.5, 0.45),
    "sand": (0.11, 0.35, 0.75),
    "water": (0.57, 0.45, 0.6),
    "night": (0.65, 0.4, 0.15),
    "brick": (0.03, 0.45, 0.45),
    "snow": (0.6, 0.05, 0.9),
}
_COLOUR_NAMES = tuple(COLOURS)
_SIZES = (len(COLOURS), len(PATTERNS), len(SHAPES))


class Concept(NamedTuple):
    """One of the 640 combinations, as indices into :data:`COLOURS`, :data:`PATTERNS` and :data:`SHAPES`."""

    colour: int
    pattern: int
    shape: int

    @property
    def name(self) -> str:
        """For example ``"red striped star"``."""
        return f"{_COLOUR_NAMES[self.colour]} {PATTERNS[self.pattern]} {SHAPES[self.shape]}"


def all_concepts() -> list[Concept]:
    """All 640 combinations in index order."""
    return [Concept(c, p, s) for c in range(_SIZES[0]) for p in range(_SIZES[1]) for s in range(_SIZES[2])]


def class_split(seed: int = 0, *, base: int = 48, novel: int = 17) -> tuple[list[Concept], list[Concept]]:
    """A base/novel split in the proportions of COCO-OVD.

    Base classes are balanced over colours, patterns and shapes, so every attribute is seen in training. Novel classes
    differ pairwise in at least two attributes, and their (colour, shape) pair never occurs in base: they are recognised
    through their words or not at all.

    Args:
        seed: Draw; the same seed gives the same split.
        base: Number of base classes.
        novel: Number of novel classes.

    Returns:
        ``(base, novel)`` lists of concepts in label order.
    """
    rng = random.Random(seed)
    while True:
        classes = _balanced(rng, base)
        if len(set(classes)) == base:
            break
    taken = {(c.colour, c.shape) for c in classes}
    while True:
        unseen = _balanced(rng, novel)
        if not any((c.colour, c.shape) in taken for c in unseen) and _spread(unseen):
            return classes, unseen


def _balanced(rng: random.Random, count: int) -> list[Concept]:
    columns = []
    for size in _SIZES:
        column = [i % size for i in range(count)]
        rng.shuffle(column)
        columns.append(column)
    return [Concept(*row) for row in zip(*columns, strict=True)]


def _spread(classes: Sequence[Concept]) -> bool:
    pairs = ((a, b) for i, a in enumerate(classes) for b in classes[:i])
    return all(sum(x != y for x, y in zip(a, b, strict=True)) >= 2 for a, b in pairs)


def neighbour_split(seed: int = 0, *, base: int = 48, novel: int = 17) -> tuple[list[Concept], list[Concept]]:
    """A harder split for classification: most classes have a neighbour in their group that differs in one attribute
    only.

    Eight of the novel classes have a shape that no base class has; the others are unseen combinations of seen
    attributes.

    Args:
        seed: Draw; the same seed gives the same split.
        base: Number of base classes.
        novel: Number of novel classes.

    Returns:
        ``(base, novel)`` lists of concepts in label order.
    """
    rng = random.Random(seed)
    held = [SHAPES.index(name) for name in ("heart", "arrow", "hourglass", "crescent")]
    common = [i for i in range(len(SHAPES)) if i not in held]
    taken: set[Concept] = set()
    held_out = min(8, novel)
    first = _grow(rng, base, common, taken)
    return first, _grow(rng, novel - held_out, common, taken) + _grow(rng, held_out, held, taken)


def _grow(rng: random.Random, count: int, shapes: Sequence[int], taken: set[Concept]) -> list[Concept]:
    """``count`` new concepts, seven in ten of them one attribute away from an earlier one."""
    group: list[Concept] = []
    while len(group) < count:
        fresh = Concept(rng.randrange(_SIZES[0]), rng.randrange(_SIZES[1]), rng.choice(shapes))
        if group and rng.random() >= 0.3:
            field = rng.choice(Concept._fields)
            fresh = rng.choice(group)._replace(**{field: getattr(fresh, field)})
        if fresh not in taken:
            taken.add(fresh)
            group.append(fresh)
    return group
