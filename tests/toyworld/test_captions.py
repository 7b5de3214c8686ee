"""Every caption and template must be in words the tiny CLIPs know, and short enough for them."""

import random
import re

import open_clip
import pytest

from subpt_dense.text import get_templates
from subpt_dense.toyworld import MODEL_NAME
from subpt_dense.toyworld.captions import _SYNONYMS, all_words, caption
from subpt_dense.toyworld.concepts import COLOURS, GROUNDS, PATTERNS, SHAPES, all_concepts

LENGTH = 32


@pytest.fixture(scope="module")
def captions():
    rng = random.Random(0)
    concepts = rng.choices(all_concepts(), k=4000)
    grounds = rng.choices([*GROUNDS], k=4000)
    return [(c, ground, caption(rng, c, ground)) for c, ground in zip(concepts, grounds, strict=True)]


@pytest.fixture(scope="module")
def tokenizer():
    return open_clip.get_tokenizer(MODEL_NAME)


def test_every_word_is_known(captions):
    texts = [text for *_, text in captions]
    assert {word for text in texts for word in re.findall(r"\w+", text)} <= {*all_words()}
    assert all(text == " ".join(text.split()) for text in texts)


def test_captions_fit_but_for_the_end_of_a_tail(captions, tokenizer):
    """Some two in ten thousand are a token or two too long; what the tokenizer then cuts says where, not what."""
    lengths = [len(tokenizer.encode(text)) + 2 for *_, text in captions]
    assert max(lengths) <= LENGTH + 2 and sum(length > LENGTH for length in lengths) <= 0.001 * len(captions)
    for concept, _, text in captions:
        name_ends = text.rindex(SHAPES[concept.shape]) if SHAPES[concept.shape] in text else 0
        assert len(tokenizer.encode(text[:name_ends])) + 2 < LENGTH - 6  # "star that is red and checkered"


def test_words_are_short_in_tokens(tokenizer):
    assert max(len(tokenizer.encode(word)) for word in all_words()) <= 3


def test_captions_speak_of_their_concept_and_ground(captions):
    spoken = 0
    for concept, ground, text in captions:
        words = set(re.findall(r"\w+", text))
        for word in (tuple(COLOURS)[concept.colour], PATTERNS[concept.pattern], SHAPES[concept.shape]):
            spoken += word in words or _SYNONYMS.get(word) in words
        attributes = {*concept.name.split()}
        others = {*COLOURS, *PATTERNS, *SHAPES} - attributes
        others |= {_SYNONYMS[word] for word in others if word in _SYNONYMS}
        assert not words & others
        assert not words & ({*GROUNDS} - {ground})
    assert 0.9 < spoken / (3 * len(captions)) < 1  # in full most of the time


def test_synonyms_are_nobody_elses_words():
    words = [*COLOURS, *PATTERNS, *SHAPES, *GROUNDS, *_SYNONYMS.values()]
    assert len(words) == len(set(words)) and {*_SYNONYMS} <= {*COLOURS, *PATTERNS, *SHAPES}


def test_captions_vary_and_repeat_with_the_seed():
    concept = all_concepts()[7]

    def draw(seed):
        rng = random.Random(seed)
        return [caption(rng, concept, "sand") for _ in range(200)]

    assert draw(1) == draw(1) != draw(2)
    assert len({*draw(1)}) > 150
    assert any(text.endswith(".") for text in draw(1)) and not all(text.endswith(".") for text in draw(1))


def test_late_positions_are_trained(captions, tokenizer):
    """A context of 16 tokens pushes the name behind position 16."""
    long = [text for *_, text in captions if len(tokenizer.encode(text)) >= 18]
    assert len(long) > 0.05 * len(captions)


@pytest.mark.parametrize("templates", ["single", "toy"])
def test_templates_are_in_known_words_and_fit(templates, tokenizer):
    known = set(all_words())
    longest = max((concept.name for concept in all_concepts()), key=lambda name: len(tokenizer.encode(name)))
    for template in get_templates(templates):
        assert {*re.findall(r"\w+", template.replace("{}", ""))} <= known
        assert len(tokenizer.encode(template.format(longest))) + 2 <= LENGTH


def test_every_name_fits_behind_sixteen_context_tokens(tokenizer):
    assert max(len(tokenizer.encode(f"{concept.name}.")) for concept in all_concepts()) + 16 + 2 <= LENGTH


def test_all_words_is_a_sorted_list_without_repeats():
    assert all_words() == sorted(set(all_words()))
