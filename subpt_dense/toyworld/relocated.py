"""A config that was written for one toy world, made to read another."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

_CLIP = "clip_seed0.pt"


def relocated(config: str | Path, root: str | Path, clip_seed: int = 0, *, home: str) -> dict[str, Any]:
    """The overrides that make a config read another world, with another of its CLIPs.

    Args:
        config: The config file, written for the world ``home`` and its ``clip_seed0.pt``.
        root: The other world's folder.
        clip_seed: The other CLIP.
        home: ``data/toy_cls`` or ``data/toy``, without a slash at the end.
    """
    found = {}
    for key, text in _strings(Config.fromfile(config).to_dict()):
        if text == home or text.startswith(f"{home}/"):
            found[key] = str(root) + text.removeprefix(home).replace(_CLIP, f"clip_seed{clip_seed}.pt")
    return found


def _strings(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string in a config, with its dotted key."""
    if isinstance(node, str):
        yield key, node
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for name, inner in pairs:
        yield from _strings(inner, f"{key}.{name}" if key else str(name))
