"""Class names: what is accepted as one, and the generic vocabularies."""

from collections.abc import Sequence

_VOCABULARIES = ("imagenet",)


def clean_name(name: str) -> str:
    """A class name as it is written into a prompt: underscores become spaces, runs of whitespace one space."""
    return " ".join(name.replace("_", " ").split())


def check_names(names: Sequence[str], owner: str) -> tuple[str, ...]:
    """Class names, checked and otherwise unchanged.

    Args:
        names: At least one name, in label order.
        owner: Who asks; named in the error.

    Returns:
        The names as given.

    Raises:
        TypeError: If ``names`` is one string or not a sequence.
        ValueError: If there is none, or one is not a string, is empty, or is repeated. Two names are the same when they
            differ only in case, underscores and whitespace: a prompt could not tell them apart.
    """
    if isinstance(names, (str, bytes)) or not isinstance(names, Sequence):
        raise TypeError(f"`names` of {owner} must be a list of class names. Got {type(names).__name__} {names!r}.")
    if not names:
        raise ValueError(f"`names` of {owner} must hold at least one class name. Got none.")
    blank = [f"{i}: {n!r}" for i, n in enumerate(names) if not isinstance(n, str) or not clean_name(n)]
    if blank:
        raise ValueError(f"`names` of {owner} must be non-empty strings. Got {', '.join(blank)} (position: value).")
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(clean_name(name).casefold(), []).append(name)
    repeated = [" = ".join(map(repr, same)) for same in spellings.values() if len(same) > 1]
    if repeated:
        raise ValueError(
            f"`names` of {owner} must be distinct, case, underscores and extra spaces aside. Got {', '.join(repeated)}."
        )
    return tuple(names)


def generic_names(vocabulary: str) -> tuple[str, ...]:
    """The distinct names of a generic vocabulary, in its own order.

    Args:
        vocabulary: ``"imagenet"``, the 1000 ImageNet-1k names as curated by CLIP's authors
            (``open_clip.IMAGENET_CLASSNAMES``), the two that occur twice once: 998.

    Raises:
        ValueError: If the vocabulary is unknown.
    """
    if vocabulary not in _VOCABULARIES:
        raise ValueError(f"`vocabulary` must be one of {', '.join(map(repr, _VOCABULARIES))}. Got {vocabulary!r}.")
    import open_clip  # slow to import, and names alone need no CLIP

    first: dict[str, str] = {}
    for name in open_clip.IMAGENET_CLASSNAMES:
        first.setdefault(clean_name(name).casefold(), name)
    return tuple(first.values())
