"""Dense maps and label maps on disk (N images, D embedding, h x w cells, H x W pixels).

``<name>.bin`` holds the bytes of all items one behind another: the map as float16, then the labels as uint8 or uint16.
``<name>.json`` says where each item lies and what all were made with. It is written last: without it there is no file.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from subpt_dense.datasets import write_json

FORMAT, VERSION = "subpt_dense.dense_maps", 1


class MapItem(NamedTuple):
    """One image.

    Attributes:
        dense: The map ``[D, h, w]`` float16.
        labels: The label map ``[1, H, W]`` int64, or ``None``.
        meta: What JSON can hold: of the sample, and ``img_shape``, the size of the image that the map is of.
    """

    dense: Tensor
    labels: Tensor | None
    meta: dict[str, Any]


def write_maps(path: Path, items: Iterable[MapItem], facts: Mapping[str, Any]) -> None:
    """Write items as they come; nothing but the one at hand is in memory.

    Args:
        path: Without a suffix; its folder is made.
        items: The images, in order.
        facts: What the maps were made with, for JSON.

    Raises:
        ValueError: If a map has a number that float16 cannot hold, or a label is not in [0, 65535].
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    digest, written = hashlib.sha256(), 0
    index: list[dict[str, Any]] = []
    try:
        with partial.open("wb") as file:
            for item in items:
                dense = item.dense.detach().cpu().half().contiguous()
                if not torch.isfinite(dense).all():
                    raise ValueError(f"Dense maps must be finite in float16. That of image {len(index)} is not.")
                labels = None if item.labels is None else _narrow(item.labels)
                parts = [dense.numpy(), *([] if labels is None else [labels])]
                shapes = [[*part.shape] for part in parts]
                kind = None if labels is None else str(labels.dtype)
                index.append({"offset": written, "shapes": shapes, "labels": kind, "meta": _plain(item.meta)})
                for part in parts:
                    data = part.tobytes()
                    file.write(data)
                    digest.update(data)
                    written += len(data)
        os.replace(partial, path.with_suffix(".bin"))
    finally:
        partial.unlink(missing_ok=True)
    manifest = {"format": FORMAT, "version": VERSION, "facts": _plain(dict(facts)), "bytes": written}
    write_json(path.with_suffix(".json"), {**manifest, "sha256": digest.hexdigest(), "items": index})


class MapsFile:
    """Items of :func:`write_maps`, read through a memory map that processes share; a pickle opens it again.

    Args:
        path: Without a suffix.
        facts: What the maps must have been made with.
        verify: Also compare the SHA-256 of the bytes, which reads them all.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another kind, was made with other facts, or is truncated or damaged; names both sides.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any], verify: bool = False) -> None:
        self.path = path.with_suffix(".bin").absolute()
        manifest = _read_manifest(path.with_suffix(".json"))
        wanted = _plain(dict(facts))
        differing = [key for key in {**wanted, **manifest["facts"]} if manifest["facts"].get(key) != wanted.get(key)]
        if differing:
            sides = "; ".join(
                f"{key}: the file has {manifest['facts'].get(key)!r}, asked for {wanted.get(key)!r}"
                for key in differing
            )
            raise ValueError(f"{self.path} must hold the maps that are asked for. It differs in {sides}. Remove it.")
        found = self.path.stat().st_size if self.path.is_file() else None
        if found != manifest["bytes"]:
            got = "It is missing" if found is None else f"It has {found}"
            raise ValueError(
                f"{self.path} must have the {manifest['bytes']} bytes that its .json says. {got}: remove both, and "
                "they are made again."
            )
        if verify:
            self._verify(manifest["sha256"])
        self._items: list[dict[str, Any]] = manifest["items"]
        self._bytes: NDArray[np.uint8] | None = None

    def _verify(self, wanted: str) -> None:
        with self.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != wanted:
            raise ValueError(
                f"{self.path} must have the SHA-256 {wanted} that its .json says. Got {found}: it is damaged. Remove "
                "both, and they are made again."
            )

    def __getstate__(self) -> dict[str, Any]:
        """Without the memory map."""
        return {**self.__dict__, "_bytes": None}

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> MapItem:
        """The item; its tensors are copies."""
        item = self._items[index]
        dense, end = self._read(item["offset"], item["shapes"][0], "float16")
        labels = None
        if item["labels"] is not None:
            labels = torch.from_numpy(self._read(end, item["shapes"][1], item["labels"])[0].astype(np.int64))
        meta = {key: tuple(value) if isinstance(value, list) else value for key, value in item["meta"].items()}
        return MapItem(torch.from_numpy(dense), labels, meta)

    def _read(self, start: int, shape: list[int], dtype: str) -> tuple[NDArray[Any], int]:
        if self._bytes is None:
            self._bytes = np.memmap(self.path, dtype=np.uint8, mode="r")
        end = start + int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.frombuffer(self._bytes[start:end].tobytes(), dtype=dtype).reshape(shape).copy(), end


def _narrow(labels: Tensor) -> NDArray[Any]:
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high > 65535:
        raise ValueError(f"Labels of dense maps must be in [0, 65535]. Got {low if low < 0 else high}.")
    return labels.cpu().numpy().astype(np.uint8 if high <= 255 else np.uint16)


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value, default=lambda array: array.tolist()))


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: there are no dense maps of that name.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be JSON. Got: {error}. Remove it, and it is made again.") from error
    found = (manifest.get("format"), manifest.get("version")) if isinstance(manifest, dict) else (None, None)
    if found != (FORMAT, VERSION):
        raise ValueError(f"{path} must have format {FORMAT!r} and version {VERSION}. Got {found[0]!r} and {found[1]}.")
    return manifest
