"""Hand-crafted prompt templates, by name."""

import re
from collections.abc import Sequence

_SINGLE = ("a photo of a {}.",)
_TOY = (
    "a photo of a {}.",
    "a picture of a {}.",
    "an image of a {}.",
    "there is a {}.",
    "a blurry photo of a {}.",
    "a dark photo of a {}.",
    "a close photo of a {}.",
)
_BRACES = re.compile(r"\{\}|[{}]")
_NAMES = ("single", "imagenet80", "toy")


def get_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """A template list by name, or an explicit one, checked.

    Args:
        templates: ``"single"`` (CLIP's default prompt), ``"imagenet80"`` (the 80 of CLIP's authors, from open_clip),
            ``"toy"`` (what the toy CLIPs were trained with), or a list of one's own.

    Returns:
        Templates that hold ``{}`` once, for the class name.

    Raises:
        ValueError: If the name is unknown, the list empty, or a template's braces are not exactly one ``{}``.
    """
    if isinstance(templates, str):
        return _by_name(templates)
    if not templates:
        raise ValueError("`templates` must hold at least one template. Got none.")
    bad = [repr(t) for t in templates if not isinstance(t, str) or _BRACES.findall(t) != ["{}"]]
    if bad:
        raise ValueError(f"`templates` must each hold exactly one {{}} for the class name. Got {', '.join(bad)}.")
    return tuple(templates)


def _by_name(name: str) -> tuple[str, ...]:
    if name == "single":
        return _SINGLE
    if name == "toy":
        return _TOY
    if name == "imagenet80":
        import open_clip  # slow to import, and needed for this list only

        return tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
    raise ValueError(f"`templates` must be one of {', '.join(map(repr, _NAMES))} or a list of templates. Got {name!r}.")
