"""What a task knows about its language, so that prompt configs need not repeat it."""

import inspect
from collections.abc import Mapping
from typing import Any

from subpt_dense.registry import MODELS

_KEYS = ("text", "templates", "names")


def complete_prompt(prompt: Mapping[str, Any], language: Mapping[str, Any] | None) -> dict[str, Any]:
    """A prompt head's config with what it leaves open taken from the task's ``language``.

    One prompt config thus serves every data set: the task says which CLIP, which hand-crafted templates that CLIP was
    trained for, and which lists of names there are; the head says what it does with them.

    Args:
        prompt: Config of a prompt head. What it states itself is kept.
        language: ``text``: the tower, ``dict(model=..., pretrained=...)``. ``templates``: for hand-crafted rows and for
            anchors' targets. ``names``: lists of names an anchor may ask for by key, such as ``dict(generic=...,
            heldout=...)``.

    Returns:
        A new config.

    Raises:
        ValueError: If ``language`` has another key, or an anchor asks for a list that ``names`` does not have.
    """
    filled = dict(prompt)
    if not language:
        return filled
    unknown = sorted(set(language) - set(_KEYS))
    if unknown:
        raise ValueError(f"`language` must have no keys but {', '.join(_KEYS)}. Got {', '.join(unknown)}.")
    accepted = inspect.signature(_head_class(prompt)).parameters
    for key in ("text", "templates"):
        if key in language and key in accepted:
            filled.setdefault(key, language[key])
    if filled.get("anchors"):
        filled["anchors"] = [_complete_anchor(anchor, language) for anchor in filled["anchors"]]
    return filled


def _head_class(prompt: Mapping[str, Any]) -> type:
    kind = prompt.get("type")
    head = MODELS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(head, type):
        raise ValueError(
            f"`prompt.type` must be a registered prompt head such as 'subpt_dense.ContextPrompt'. Got {kind!r}."
        )
    return head


def _complete_anchor(anchor: Any, language: Mapping[str, Any]) -> Any:
    if not isinstance(anchor, Mapping):
        return anchor
    filled = dict(anchor)
    if "templates" in language:
        filled.setdefault("templates", language["templates"])
    lists, asked = language.get("names", {}), filled.get("names")
    if isinstance(asked, str) and asked in lists:
        filled["names"] = lists[asked]
        if asked in ("generic", "heldout"):
            filled.setdefault("kind", asked)
    elif asked in ("generic", "heldout"):
        raise ValueError(
            f"`names={asked!r}` of TextAnchor must be a list in `language.names`. Got {', '.join(lists) or 'none'}."
        )
    return filled
