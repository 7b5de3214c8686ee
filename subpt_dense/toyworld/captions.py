"""What is said about a toy image: the captions that teach the tiny CLIPs their words."""

import random

from subpt_dense.toyworld.concepts import COLOURS, GROUNDS, PATTERNS, SHAPES, Concept

_SYNONYMS = {
    **{"red": "crimson", "orange": "tangerine", "yellow": "golden", "green": "emerald"},
    **{"cyan": "turquoise", "blue": "navy", "purple": "violet", "pink": "rosy"},
    **{"plain": "solid", "striped": "banded", "dotted": "spotted", "checkered": "chequered", "framed": "outlined"},
    **{"circle": "disc", "square": "box", "diamond": "rhombus", "cross": "plus", "ring": "hoop", "crescent": "moon"},
    **{"bar": "stick", "dome": "semicircle", "flower": "blossom", "hourglass": "bowtie", "oval": "ellipse"},
}
_OPENERS = (
    *("a photo of a", "a picture of a", "an image of a", "a", "the", "this is a", "there is a", "a drawing of a"),
    *("a view of the", "one", "a close photo of a", "a blurry photo of a", "a dark photo of a"),
    *("a bright picture of the", "look at the", "i see a"),
)
_CHATTER = """
well so now then here today yesterday we my friend took found saw near old new house lake road city market table garden
very nice really good bad some small large it was in on at by with from and for that this one day morning evening just
posted online from camera phone
""".split()  # noqa: SIM905  (as a list it would fill the screen)
_SIZES = ("small", "large", "nice")
_TAILS = ("", "", "", "on {}", "on the {}", "with {} behind it", "in the middle of {}", "seen on {}")
#: Words of the template lists that no caption pattern above uses.
_TEMPLATE_WORDS = ["of", "type", "object", "itap", "origami", "cropped", "jpeg"]


def caption(rng: random.Random, concept: Concept, ground: str) -> str:
    """One caption: chatter, an opener, the concept in full or in part, a tail and a full stop, each by chance.

    The chatter comes first, so that the late positions of the text tower are trained: a learned context of 16 tokens
    pushes the class name there.
    """
    colour, pattern, shape = (
        _SYNONYMS.get(word, word) if rng.random() < 0.3 else word
        for word in (tuple(COLOURS)[concept.colour], PATTERNS[concept.pattern], SHAPES[concept.shape])
    )
    words: list[str] = []
    if rng.random() < 0.3:
        words += rng.choices(_CHATTER, k=rng.randint(1, 14))
    if rng.random() < 0.9:
        words += rng.choice(_OPENERS).split()
    if rng.random() < 0.15:
        words.append(rng.choice(_SIZES))
    words += rng.choices(
        ([colour, pattern, shape], [colour, shape], [pattern, shape], [pattern, colour, shape],
         [shape, "that", "is", colour, "and", pattern]),
        weights=(70, 6, 6, 9, 9),
    )[0]  # fmt: skip
    words += rng.choice(_TAILS).format(ground).split()
    return " ".join(words) + ("." if rng.random() < 0.6 else "")


def all_words() -> list[str]:
    """Every word a caption or a template may hold, sorted: the words a tiny CLIP knows."""
    known = {
        *COLOURS,
        *PATTERNS,
        *SHAPES,
        *GROUNDS,
        *_SYNONYMS.values(),
        *_CHATTER,
        *_SIZES,
        *_TEMPLATE_WORDS,
        "that",
        "is",
    }
    for phrase in (*_OPENERS, *_TAILS):
        known.update(phrase.replace("{}", "").split())
    return sorted(known)
