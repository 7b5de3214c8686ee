"""The files and folders that a config's classification sets need, found without opening any."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from subpt_dense.datasets.image_sets import FOLDER, IMAGE_SETS


def set_paths(spec: Mapping[str, Any], key: str) -> Iterator[tuple[str, str, str]]:
    """(path, ``"file"`` or ``"folder"``, key in the config) of a set's part, or of its class names alone.

    Args:
        spec: An ``ImageSet`` config, or ``dict(set=..., data_root=...)`` as anchors name a set: without a ``type`` the
            class names are what is read.
        key: Where it stands in the config.
    """
    name, root = spec.get("set"), str(spec.get("data_root", "data"))
    if not isinstance(name, str) or (name != FOLDER and name not in IMAGE_SETS):
        return  # not ours to report: building it does
    key = f"{key}.set={name!r}"
    if name == FOLDER:
        folders = spec.get("folders")
        for folder in folders.values() if isinstance(folders, Mapping) else [""]:
            yield os.path.normpath(os.path.join(root, folder)), "folder", key
        return
    info, part = IMAGE_SETS[name], spec.get("part", "train" if "type" in spec else None)
    if part == "val" and part not in info.counts:
        part = "train"  # drawn from what the training draw leaves
    for path, kind in info.needed(root, part):
        yield path, kind, key


def named_sets(node: Any, key: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Every ``dict(set=..., ...)`` below a part of a config, and where it stands."""
    if isinstance(node, Mapping):
        if isinstance(node.get("set"), str):
            yield node, key
        for name, value in node.items():
            yield from named_sets(value, f"{key}.{name}")
    elif isinstance(node, Sequence) and not isinstance(node, (str, bytes)):
        for i, value in enumerate(node):
            yield from named_sets(value, f"{key}[{i}]")


def where_to_get(spec: Mapping[str, Any]) -> str | None:
    """The line that says where a set is to be had; None for plain folders."""
    info = IMAGE_SETS.get(str(spec.get("set")))
    return info.help() if info else None
