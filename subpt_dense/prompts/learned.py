"""A prompt learned elsewhere, for any vocabulary (M tokens, W text width, K classes, D embedding)."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from torch import nn

from subpt_dense.datasets import resolve_names
from subpt_dense.prompts.context import ContextPrompt
from subpt_dense.prompts.prompt_file import PromptFile, load_prompt
from subpt_dense.registry import MODELS
from subpt_dense.text import TextSpec, clean_name

#: Heads whose rows follow from their context alone.
_REBUILT = ("ContextPrompt",)


@MODELS.register_module()
class LearnedPrompt(ContextPrompt):
    """The rows of a :class:`ContextPrompt` that was learned in another run, or for another task; nothing is learned.

    The context comes from a file of :func:`subpt_dense.prompts.save_prompt` and is in no state dict: the file is what
    counts, and a checkpoint of the host knows it by its hash.

    Args:
        file: The prompt file (``.safetensors``).
        text: The tower of the task, ``dict(model=..., pretrained=..., precision="fp32")``; its text weights must be
            those the prompt was learned with.
        names: Where given, the names the prompt must have been trained with, in any order: anything
            ``datasets.resolve_names`` takes, such as ``dict(split="coco_ovd", group="base")``.
        length: Where given, the M the file must have.
        position: Where given, the place of the name it must have.
        as_heldout: Take a file that was trained with names called novel here, or whose generic anchors held evaluated
            ones, all the same: results then call these anchors ``heldout``, and their identity says ``as_heldout``.
        encoder: As for :class:`ContextPrompt`.
        max_tokens: As for :class:`ContextPrompt`.
        vocabulary: Class names in label order; may be set later.

    Attributes:
        file: The path, as given.
        origin: What the file says of its head and run: ``type``, ``trained_names`` (their number),
            ``trained_sha256``, and the facts of :data:`subpt_dense.prompts.prompt_file.FACTS`, scores excepted.
        context: The buffer ``[M, W]``.
        initial_context: The buffer ``[M, W]``, where the learning began.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is damaged or of another kind, of a head this class cannot rebuild, or differs from this model
            or from what was asked for; both sides are named.
    """

    def __init__(
        self,
        file: str | os.PathLike,
        text: dict | TextSpec,
        names: Sequence[str] | Mapping[str, Any] | str | None = None,
        length: int | None = None,
        position: str | None = None,
        as_heldout: bool = False,
        encoder: str = "auto",
        max_tokens: int | None = None,
        vocabulary: Sequence[str] = (),
    ) -> None:
        loaded = load_prompt(file)
        found = loaded.identity
        if found["type"] not in _REBUILT:
            raise ValueError(
                f"`file` of LearnedPrompt must come from {' or '.join(_REBUILT)}. {file} comes from {found['type']}, "
                f"with the parameters {', '.join(loaded.parameters)}."
            )
        backbone = text.get("model") if isinstance(text, Mapping) else getattr(text, "model", None)
        asked = {"backbone": backbone, "length": length, "position": position}
        _refuse_other(file, found, {key: value for key, value in asked.items() if value is not None})
        if names is not None:
            _refuse_other_names(file, loaded.names, resolve_names(names))
        super().__init__(
            text, length=found["length"], position=found["position"], encoder=encoder, max_tokens=max_tokens
        )
        _refuse_other(file, found, {"weights_hash": self.key.weights_hash, "width": self.context.shape[1]})
        context = loaded.parameters["context"]
        del self.context, self.initial_context
        self.register_buffer("context", context, persistent=False)
        self.register_buffer(
            "initial_context", context.clone() if loaded.initial is None else loaded.initial, persistent=False
        )
        self.init = found["init"]
        self.file = str(file)
        self.origin = _origin(loaded)
        self._hash = _sha256(context.numpy().tobytes())
        self._trained, self._as_heldout = loaded.names, as_heldout
        self._learned_with = _labelled(loaded.anchors, as_heldout)
        self._summaries = _labelled(found["anchors"], as_heldout)
        self._warned: set[str] = set()
        if vocabulary:
            self.vocabulary = vocabulary

    def prompt_parameters(self) -> dict[str, nn.Parameter]:
        """Nothing is learned."""
        return {}

    def check_evaluated(self, names: Sequence[str], novel: Sequence[str] = ()) -> None:
        """Refuse a file that was trained with a novel name, or whose generic anchors held an evaluated one.

        Held-out anchors that did are warned of.

        Raises:
            ValueError: If results would call the prompt ignorant of a name it was learned with.
        """
        evaluated, unseen = {_same(name) for name in names}, {_same(name) for name in novel}
        trained = [name for name in self._trained if _same(name) in unseen]
        if trained and not self._as_heldout:
            raise ValueError(
                f"The names that {self.file} was trained with must hold none that this evaluation calls novel. "
                f"Got {len(trained)}: {', '.join(trained[:5])}{' ...' if trained[5:] else ''}. Learn the prompt on "
                "this data's base names, or say `as_heldout=True`: results then state it."
            )
        for anchor in self._learned_with:
            known = [name for name in anchor["names"] or () if _same(name) in evaluated]
            listed = f"{', '.join(known[:5])}{' ...' if len(known) > 5 else ''}"
            if known and anchor["kind"] == "generic":
                raise ValueError(
                    f"`names` of the generic TextAnchor {anchor['name']!r}, with which {self.file} was learned, must "
                    f"hold no evaluated name. Got {listed}. Learn the prompt without them, or say `as_heldout=True`."
                )
            if known and listed not in self._warned:
                self._warned.add(listed)
                print_log(
                    f"The prompt of {self.file} was learned with {len(known)} of the names evaluated here in its "
                    f"{anchor['kind']} TextAnchor {anchor['name']!r} ({listed}): results must say so.",
                    "current",
                    level=30,
                )

    def anchor_summary(self) -> list[dict[str, Any]]:
        """The anchors it was learned with, as their own head summed them up."""
        return self._summaries

    def identity(self) -> dict[str, Any]:
        """Adds the file's name, the hash of its context, and its origin; ``anchors`` are those it was learned with."""
        facts: dict[str, Any] = {"file": os.path.basename(self.file), "context_sha256": self._hash}
        facts |= {"origin": self.origin, "as_heldout": self._as_heldout}
        return super().identity() | facts


def _origin(loaded: PromptFile) -> dict[str, Any]:
    facts = {key: value for key, value in loaded.facts.items() if key != "scores"}
    trained = {"trained_names": len(loaded.names), "trained_sha256": _sha256(json.dumps(loaded.names).encode())}
    return {"type": loaded.identity["type"], **trained, **facts}


def _labelled(anchors: Sequence[dict[str, Any]], as_heldout: bool) -> list[dict[str, Any]]:
    told = {"kind": "heldout"} if as_heldout else {}
    return [anchor | (told if anchor["kind"] == "generic" else {}) for anchor in anchors]


def _refuse_other(file: str | os.PathLike, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    differing = [key for key, value in asked.items() if found[key] != value]
    if differing:
        sides = "; ".join(f"{key}: the file has {found[key]!r}, this model {asked[key]!r}" for key in differing)
        raise ValueError(
            f"`file` of LearnedPrompt must fit the model it is used in. {file}, learned on {found['backbone']!r} "
            f"({found['weights']}), does not: {sides}."
        )


def _refuse_other_names(file: str | os.PathLike, found: Sequence[str], asked: Sequence[str]) -> None:
    mine, theirs = {_same(name): name for name in asked}, {_same(name): name for name in found}
    if mine.keys() != theirs.keys():
        raise ValueError(
            f"`names` of LearnedPrompt must be the {len(found)} with which {file} was trained. Got {len(asked)}; only "
            f"in the file: {_some(theirs, mine)}; only in `names`: {_some(mine, theirs)}."
        )


def _some(names: Mapping[str, str], without: Mapping[str, str]) -> str:
    rest = [name for key, name in names.items() if key not in without]
    return (", ".join(map(repr, rest[:5])) + (" ..." if len(rest) > 5 else "")) or "none"


def _same(name: str) -> str:
    return clean_name(name).casefold()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
