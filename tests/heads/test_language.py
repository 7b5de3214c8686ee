"""What a task fills into a prompt's config, and what it leaves alone."""

import copy

import pytest
from mmengine.registry import DefaultScope

from subpt_dense.heads import complete_prompt
from subpt_dense.losses import TextAnchor
from subpt_dense.prompts import ContextPrompt
from subpt_dense.registry import MODELS

TEXT = {"model": "tiny", "pretrained": "weights.pt"}
GENERIC = {"vocabulary": "imagenet", "exclude": "coco_ovd"}
HELDOUT = {"split": "coco_ovd", "group": "novel"}
ROWS = {"type": "subpt_dense.RowsPrompt", "file": "rows.safetensors"}
LANGUAGE = {"text": TEXT, "templates": "toy", "names": {"generic": GENERIC, "heldout": HELDOUT}}


def template(**more):
    return {"type": "subpt_dense.TemplatePrompt", **more}


def context(*anchors, **more):
    return {"type": "subpt_dense.ContextPrompt", **more, **({"anchors": [*anchors]} if anchors else {})}


CASES = {
    "template": (template(), template(text=TEXT, templates="toy")),
    "its own templates": (template(templates="single"), template(text=TEXT, templates="single")),
    "its own tower": (template(text={"model": "x"}), template(text={"model": "x"}, templates="toy")),
    "context takes no templates": (context(length=4), context(length=4, text=TEXT)),
    "rows take nothing": (ROWS, ROWS),
    "a class as type": ({"type": ContextPrompt}, {"type": ContextPrompt, "text": TEXT}),
    "generic": (
        context({"names": "generic"}),
        context({"names": GENERIC, "templates": "toy", "kind": "generic"}, text=TEXT),
    ),
    "heldout": (
        context({"names": "heldout", "weight": 2.0}),
        context({"names": HELDOUT, "weight": 2.0, "templates": "toy", "kind": "heldout"}, text=TEXT),
    ),
    "an anchor's own templates": (
        context({"names": "generic", "templates": "single"}),
        context({"names": GENERIC, "templates": "single", "kind": "generic"}, text=TEXT),
    ),
    "a list is labelled by its key unless it says otherwise": (
        context({"names": "heldout", "kind": "generic"}),
        context({"names": HELDOUT, "templates": "toy", "kind": "generic"}, text=TEXT),  # TextAnchor then refuses it
    ),
    "trained, listed and filed names stay": (
        context({"names": "trained"}, {"names": ["lynx"]}, {"names": "my.txt"}, {"names": HELDOUT}),
        context(
            *({"names": names, "templates": "toy"} for names in ("trained", ["lynx"], "my.txt", HELDOUT)), text=TEXT
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_complete_prompt(case):
    prompt, expected = CASES[case]
    before = copy.deepcopy((prompt, LANGUAGE))
    assert complete_prompt(prompt, LANGUAGE) == expected
    assert (prompt, LANGUAGE) == before


@pytest.mark.parametrize("language", [None, {}])
def test_no_language(language):
    prompt = context({"names": "generic"})
    filled = complete_prompt(prompt, language)
    assert filled == prompt and filled is not prompt


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ({"text": TEXT}, template(text=TEXT)),
        ({"templates": "toy"}, template(templates="toy")),
        ({"names": {"generic": GENERIC}}, template()),
    ],
    ids=["text", "templates", "names"],
)
def test_a_language_may_know_a_part(language, expected):
    assert complete_prompt(template(), language) == expected


def test_an_anchor_that_is_built_already_stays():
    anchor = TextAnchor(["lynx"], templates="single")
    assert complete_prompt(context(anchor), LANGUAGE)["anchors"] == [anchor]


@pytest.mark.parametrize(
    ("prompt", "language", "message"),
    [
        (
            template(),
            {"text": TEXT, "tower": 1, "name": 2},
            "no keys but text, templates, names. Got name, tower",
        ),
        (context({"names": "generic"}), {"text": TEXT}, "`names='generic'` .* list in `language.names`. Got none"),
        (context({"names": "heldout"}), {"names": {"generic": GENERIC}}, "`names='heldout'` .* Got generic"),
        ({"length": 4}, LANGUAGE, "`prompt.type` must be a registered .* 'subpt_dense.ContextPrompt'. Got None"),
        (
            {"type": "subpt_dense.NoPrompt"},
            LANGUAGE,
            "`prompt.type` must be .* Got 'subpt_dense.NoPrompt'",
        ),
        ({"type": 3}, LANGUAGE, "Got 3"),
    ],
    ids=["unknown keys", "no lists", "another list", "no type", "unknown type", "type of another kind"],
)
def test_refusals(prompt, language, message):
    with pytest.raises(ValueError, match=message):
        complete_prompt(prompt, language)


@pytest.mark.parametrize("scope", [None, "mmdet"], ids=["alone", "in a host's Runner"])
def test_what_is_filled_in_can_be_built(tiny_clip, scope):
    text = {"model": tiny_clip[0], "pretrained": tiny_clip[1]}
    language = {"text": text, "templates": "toy", "names": {"generic": ["lynx", "yak"], "heldout": ["wolf"]}}
    for prompt in (template(), context(length=3), context({"names": "generic"}, length=3)):
        with DefaultScope.overwrite_default_scope(scope):
            head = MODELS.build({**complete_prompt(prompt, language), "vocabulary": ("cat", "dog")})
        assert head().shape == (2, 24)
    assert head.anchor_summary()[0]["num_names"] == 2 and head.anchor_summary()[0]["templates"] == "toy"
