"""The basis file: a fitted subspace with what is needed to use it again, or to refuse it (P numbers, R rank)."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from subpt_dense.prompts.sealed import read_sealed, write_sealed
from subpt_dense.subspace import Subspace

FORMAT, VERSION = "subpt_dense.basis", "1"
#: What of a prompt head's identity must agree: another text tower or another kind of prompt has other directions.
_OWNERSHIP = ("type", "backbone", "weights_hash", "length", "width", "position")


@dataclass(frozen=True)
class BasisFile:
    """A subspace and where it comes from.

    Attributes:
        subspace: Rank R, length P.
        starts: Where a prompt may restart, ``[P]`` each: ``init``, ``first_snapshot``, ``last_snapshot``.
        origin: ``parameters`` (names and shapes), ``prompt`` (the head's identity), ``names`` (the vocabulary while
            exploring) and ``settings`` (of the hook).
    """

    subspace: Subspace
    starts: dict[str, Tensor]
    origin: dict[str, Any]


def basis_id(subspace: Subspace) -> str:
    """What a subspace is called in results: 16 hexadecimal digits of its basis's SHA-256."""
    return hashlib.sha256(subspace.state_dict()["basis"].contiguous().numpy().tobytes()).hexdigest()[:16]


def describe_origin(prompt: Any, parameters: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The ``origin`` of a basis that was fitted to this prompt head's parameters."""
    facts = prompt.identity() if callable(getattr(prompt, "identity", None)) else {}
    return {
        "parameters": [[name, list(parameter.shape)] for name, parameter in parameters.items()],
        "prompt": {key: facts[key] for key in _OWNERSHIP if key in facts},
        "names": list(getattr(prompt, "vocabulary", ())),
        "settings": dict(settings),
    }


def save_basis(path: str | os.PathLike, file: BasisFile) -> None:
    """Write a basis file: safetensors with a checksum, the whole of it or nothing."""
    tensors = {**file.subspace.state_dict(), **file.starts}
    write_sealed(path, tensors, {"origin": json.dumps(file.origin)}, kind=FORMAT, version=VERSION)


def load_basis(path: str | os.PathLike) -> BasisFile:
    """Read a file of :func:`save_basis`.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is no basis file, or damaged.
    """
    tensors, metadata = read_sealed(path, kind=FORMAT, version=VERSION)
    subspace = Subspace.from_state_dict({key: tensors.pop(key) for key in ("basis", "explained")})
    return BasisFile(subspace, tensors, json.loads(metadata["origin"]))


def check_origin(path: str | os.PathLike, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a basis that was fitted to another prompt.

    Args:
        path: The basis file, for the message.
        found: Its ``origin``.
        wanted: That of the run at hand.

    Raises:
        ValueError: Naming both sides, if the parameters, the prompt head, its backbone or the names differ.
    """
    for key, of_file, of_run in (
        ("parameters", found["parameters"], wanted["parameters"]),
        *((key, found["prompt"].get(key), wanted["prompt"].get(key)) for key in _OWNERSHIP),
    ):
        if of_file != of_run:
            raise ValueError(
                f"`basis_file` of SubspaceHook must come from this run's kind of prompt. {path} has {key} {of_file!r}, "
                f"this run {of_run!r}. Explore again, or use the config that wrote it."
            )
    if found["names"] != wanted["names"]:
        differing = sorted(set(found["names"]) ^ set(wanted["names"]))[:4] or "another order"
        raise ValueError(
            f"`basis_file` of SubspaceHook must have been fitted with this run's names. {path} has "
            f"{len(found['names'])} of them, this run {len(wanted['names'])}; they differ in {differing}."
        )
