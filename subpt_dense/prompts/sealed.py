"""Sealed files: safetensors that notice every changed byte, and never hold half of what was written."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

_OWN = ("format", "version", "sha256")


def write_sealed(
    path: str | os.PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, kind: str, version: str
) -> None:
    """Write tensors and strings as safetensors, with a checksum over all of them; the whole file or nothing.

    Args:
        path: Ends in ``.safetensors``; its folder is made if missing.
        tensors: By name, at least one, of any dtype safetensors knows, on any device.
        metadata: Strings by key; ``format``, ``version`` and ``sha256`` are the seal's own.
        kind: What the file is, ``"subpt_dense.<kind>"``: only those who ask for this kind can read it.
        version: Of that kind's layout.

    Raises:
        ValueError: If the path ends in something else, there is no tensor, or the metadata are not such strings.
    """
    path, noun = Path(path), _noun(kind)
    if path.suffix != ".safetensors":
        raise ValueError(f"`path` of a {noun} must end in .safetensors. Got {str(path)!r}.")
    if not tensors:
        raise ValueError(f"`tensors` of {noun} {path} must hold at least one tensor. Got none.")
    wrong = [key for key, text in metadata.items() if key in _OWN or not isinstance(text, str)]
    if wrong:
        raise ValueError(
            f"`metadata` of {noun} {path} must be strings, under other keys than {', '.join(_OWN)}. "
            f"Got {', '.join(f'{key}={metadata[key]!r}' for key in wrong)}."
        )
    # Clones: of tensors that share their memory safetensors would write none.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    sealed = {**metadata, "format": kind, "version": version}
    sealed["sha256"] = _digest(tensors, sealed)
    write_bytes(path, save(tensors, sealed))


def read_sealed(
    path: str | os.PathLike, *, kind: str, version: str, hint: str = ""
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what :func:`write_sealed` wrote.

    Args:
        path: The file.
        kind: What it must be.
        version: The layout it must have.
        hint: What to do with a file of another kind: a sentence for the error.

    Returns:
        The tensors, on the CPU, and the metadata without the seal's own keys.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is no such file, has another version, or a single byte of it was changed.
    """
    path, noun = Path(path), _noun(kind)
    if not path.is_file():
        raise FileNotFoundError(f"The {noun} {str(path)!r} does not exist.")
    data = path.read_bytes()
    try:
        tensors = load(data)
        header = data[8 : 8 + int.from_bytes(data[:8], "little")]
        metadata: dict[str, str] = json.loads(header).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:  # KeyError: a dtype torch does not know
        raise ValueError(f"{path} cannot be read as safetensors: damaged, or of another kind ({error}).") from error
    if metadata.get("format") != kind:
        found = f"Got {metadata.get('format')!r} and the tensors {sorted(tensors)[:8]}."
        raise ValueError(
            " ".join(filter(None, [f"{path} is not a {noun}: its format must be {kind!r}. {found}", hint]))
        )
    if metadata.get("version") != version:
        raise ValueError(f"The format version of {path} must be {version!r}. Got {metadata.get('version')!r}.")
    recorded = metadata.pop("sha256", None)
    if recorded != _digest(tensors, metadata) or not _is_compact(header):
        raise ValueError(f"{path} is damaged: its checksum does not fit its contents. Write it again.")
    return tensors, {key: text for key, text in metadata.items() if key not in _OWN}


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write ``data`` so that ``path`` never holds half of it: into the same folder (made if missing), then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)  # mkstemp's files are the owner's alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _noun(kind: str) -> str:
    return f"{kind.rsplit('.', 1)[-1]} file"


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    layout: list[object] = [[name, list(tensors[name].shape), str(tensors[name].dtype)] for name in sorted(tensors)]
    if list(tensors) == ["rows"]:  # as the first rows files were sealed, which stay readable
        layout = [list(tensors["rows"].shape), str(tensors["rows"].dtype)]
    digest = hashlib.sha256(json.dumps([sorted(metadata.items()), *layout], ensure_ascii=False).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _is_compact(header: bytes) -> bool:
    """Whether this is the one way to write the header: the checksum does not see blanks, of which JSON allows many."""
    compact = json.dumps(json.loads(header), separators=(",", ":"), ensure_ascii=False)
    return header.rstrip(b" ") == compact.encode()
