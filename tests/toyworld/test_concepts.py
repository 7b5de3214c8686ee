"""The splits' promises: balance, distance, no leak of a novel (colour, shape) pair into base."""

from collections import Counter
from functools import cache
from itertools import combinations

import pytest

from subpt_dense.toyworld.concepts import (
    COLOURS,
    GROUNDS,
    PATTERNS,
    SHAPES,
    Concept,
    all_concepts,
    class_split,
    neighbour_split,
)

SEEDS = [0, 1, 2]
HELD_OUT = {"heart", "arrow", "hourglass", "crescent"}


def differences(a: Concept, b: Concept) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def test_all_640_concepts_have_their_own_name_of_three_words():
    concepts = all_concepts()
    assert len(concepts) == len(set(concepts)) == 640 == len(COLOURS) * len(PATTERNS) * len(SHAPES)
    assert concepts == sorted(concepts)
    names = {concept.name for concept in concepts}
    assert len(names) == 640 and all(len(name.split()) == 3 for name in names)
    assert concepts[0].name == "red plain circle" and concepts[-1].name == "pink framed oval"


def test_no_word_means_two_things():
    words = [*COLOURS, *PATTERNS, *SHAPES, *GROUNDS]
    assert len(words) == len(set(words))
    assert all(0 <= value <= 1 for hsv in (*COLOURS.values(), *GROUNDS.values()) for value in hsv)


@cache
def drawn(split, seed):
    """A class split is drawn until it fits, which takes a while."""
    return split(seed)


@pytest.mark.parametrize("split", [class_split, neighbour_split])
@pytest.mark.parametrize("seed", SEEDS)
def test_any_split(split, seed):
    base, novel = drawn(split, seed)
    assert (len(base), len(novel)) == (48, 17)
    assert len({*base, *novel}) == 65 and {*base, *novel} <= {*all_concepts()}


@pytest.mark.parametrize("split", [class_split, neighbour_split])
def test_a_split_is_its_seed(split):
    assert split(1) == drawn(split, 1)
    assert len({tuple(drawn(split, seed)[0]) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_class_split_is_balanced_and_leaks_nothing(seed):
    base, novel = drawn(class_split, seed)
    for group in (base, novel):
        for field, values in zip(Concept._fields, (COLOURS, PATTERNS, SHAPES), strict=True):
            counts = Counter(getattr(concept, field) for concept in group)
            assert len(counts) == len(values) and max(counts.values()) - min(counts.values()) <= 1
    assert all(differences(a, b) >= 2 for a, b in combinations(novel, 2))
    assert not {(c.colour, c.shape) for c in base} & {(c.colour, c.shape) for c in novel}


def test_class_split_of_another_size():
    base, novel = class_split(3, base=5, novel=2)
    assert (len(base), len(novel)) == (5, 2) and differences(*novel) >= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_neighbour_split_is_hard(seed):
    base, novel = neighbour_split(seed)
    shapes = [{SHAPES[concept.shape] for concept in group} for group in (base, novel[:9], novel[9:])]
    assert not (shapes[0] | shapes[1]) & HELD_OUT and shapes[2] <= HELD_OUT
    close = [any(differences(a, b) == 1 for b in base) for a in base]
    assert sum(close) > 0.6 * len(base)


def test_neighbour_split_of_another_size():
    base, novel = neighbour_split(0, base=6, novel=3)
    assert len(base) == 6 and {SHAPES[concept.shape] for concept in novel} <= HELD_OUT
