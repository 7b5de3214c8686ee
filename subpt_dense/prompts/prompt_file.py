"""The prompt file: a learned prompt with all that is needed to use or to refuse it elsewhere (M tokens, W width)."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subpt_dense.prompts.base import PromptHead
from subpt_dense.prompts.sealed import read_sealed, write_sealed

FORMAT = "subpt_dense.prompt"
VERSION = "1"
INITIAL = "initial_context"
#: What a file may say of the run it comes from, and the type of each; null in the file where it is not known.
FACTS: dict[str, type] = {
    "seed": int,
    "commit": str,
    "protocol": str,
    "config": str,
    "scores": dict,
    "subspace": dict,
    "epoch": int,
    "iteration": int,
}


@dataclass(frozen=True)
class PromptFile:
    """A learned prompt and where it comes from.

    Attributes:
        parameters: What was learned, by the head's own names, float32 on the CPU: ``context`` ``[M, W]``, and whatever
            else a head learns.
        initial: The context's value at the start ``[M, W]``, where the head kept one.
        identity: The head's ``identity()``: ``type``, ``backbone``, ``weights``, ``weights_hash``, ``precision``, and
            for a context ``length``, ``width``, ``position``, ``init`` and ``anchors``.
        names: The names it was trained with, in label order.
        anchors: ``name`` of every text anchor, its ``kind``, and its ``names``: None where they are the trained ones.
        facts: All keys of :data:`FACTS`, None where the file does not say.
    """

    parameters: dict[str, Tensor]
    initial: Tensor | None
    identity: dict[str, Any]
    names: tuple[str, ...]
    anchors: tuple[dict[str, Any], ...]
    facts: dict[str, Any]


def save_prompt(path: str | os.PathLike, head: PromptHead, *, facts: Mapping[str, Any] | None = None) -> None:
    """Write what a head has learned: safetensors, with metadata (JSON texts) and a checksum over both.

    Args:
        path: Ends in ``.safetensors``; the whole file is written, or nothing.
        head: Any head with learned parameters; its vocabulary holds the names it was trained with.
        facts: Of the run, keys of :data:`FACTS`: ``seed``, ``commit``, ``protocol`` and ``config`` (names), ``scores``
            (numbers by name), ``subspace`` (SubPT's settings, and the basis by its hash), ``epoch``, ``iteration``.

    Raises:
        ValueError: If the head learns nothing or has no vocabulary, a number is not finite, or a fact is unknown or of
            another type.
    """
    parameters = {name: tensor.detach().float().cpu() for name, tensor in head.prompt_parameters().items()}
    owner = type(head).__name__
    if not parameters:
        raise ValueError(
            f"`head` of prompt file {path} must have learned parameters. Got {owner}, which learns nothing."
        )
    if not head.vocabulary:
        raise ValueError(f"`head` of prompt file {path} must have a vocabulary, the trained names. {owner} has none.")
    initial = getattr(head, INITIAL, None)
    tensors = parameters | ({} if initial is None else {INITIAL: initial.detach().float().cpu()})
    infinite = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if infinite:
        raise ValueError(f"The numbers of prompt file {path} must be finite. Those of {', '.join(infinite)} are not.")
    contents = {
        "identity": head.identity(),
        "names": head.vocabulary,
        "anchors": _anchors(head),
        **dict.fromkeys(FACTS),
        **_checked(facts or {}, path),
    }
    metadata = {key: json.dumps(value, ensure_ascii=False, allow_nan=False) for key, value in contents.items()}
    write_sealed(path, tensors, metadata, kind=FORMAT, version=VERSION)


def load_prompt(path: str | os.PathLike) -> PromptFile:
    """Read a file of :func:`save_prompt`.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is of another kind or version, or a single byte of it was changed.
    """
    hint = "A file of class rows loads as subpt_dense.RowsPrompt."
    if Path(path).is_file() and Path(path).suffix != ".safetensors":
        raise ValueError(
            f"A prompt file must end in .safetensors. Got {str(path)!r}. Checkpoints load by `load_from`, class rows "
            "as subpt_dense.RowsPrompt."
        )
    tensors, metadata = read_sealed(path, kind=FORMAT, version=VERSION, hint=hint)
    contents = {key: json.loads(text) for key, text in metadata.items()}
    return PromptFile(
        parameters={name: tensor for name, tensor in tensors.items() if name != INITIAL},
        initial=tensors.get(INITIAL),
        identity=contents["identity"],
        names=tuple(contents["names"]),
        anchors=tuple(contents["anchors"]),
        facts={key: contents[key] for key in FACTS},
    )


def _anchors(head: PromptHead) -> list[dict[str, Any]]:
    """The anchors' names in full: only with them can it be said what a prompt knows of an evaluation to come."""
    anchors: Any = getattr(head, "anchors", ())
    return [{"name": anchor.name, "kind": anchor.kind, "names": anchor.names} for anchor in anchors]


def _checked(facts: Mapping[str, Any], path: str | os.PathLike) -> dict[str, Any]:
    unknown = sorted(set(facts) - set(FACTS))
    if unknown:
        raise ValueError(
            f"`facts` of prompt file {path} may hold {', '.join(FACTS)}. Got {', '.join(unknown)} as well."
        )
    for key, value in facts.items():
        if value is not None and (not isinstance(value, FACTS[key]) or isinstance(value, bool)):
            raise ValueError(f"`{key}` of prompt file {path} must be of type {FACTS[key].__name__}. Got {value!r}.")
    try:
        json.dumps(dict(facts), allow_nan=False)
        scores = {key: float(value) for key, value in (facts.get("scores") or {}).items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"`facts` of prompt file {path} must be plain and finite, scores numbers. {error}.") from error
    return {**facts, "scores": scores} if facts.get("scores") is not None else dict(facts)
