"""What the caches of frozen image towers have in common: how a CLIP is built, and how a key finds its tower again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import open_clip
import torch

from subpt_dense.text import TowerKey

File = tuple[str, str, int, int]  # model, path, size, time of last change
Place = tuple[str, str, torch.device]  # model, weights hash, device


class _Movable(Protocol):
    def copy_to(self, device: torch.device) -> Any:
        """An independent copy on ``device``."""


Tower = TypeVar("Tower", bound=_Movable)


def file_key(model: str, path: Path) -> File:
    """What tells a weights file of a model from any other, without reading it."""
    stat = path.stat()
    return model, str(path.resolve()), stat.st_size, stat.st_mtime_ns


def build_clip(model: str, path: Path) -> Any:
    """The whole CLIP in float32 from a weights file; the caller's random numbers do not feel it."""
    with torch.random.fork_rng(devices=()):  # building a model draws numbers
        return open_clip.create_model(model, pretrained=str(path), precision="fp32", require_pretrained=True)


def find_tower(
    key: TowerKey, device: torch.device | str, towers: dict[Place, Tower], load: Callable[[str, str], TowerKey]
) -> Tower:
    """The tower behind a key, on a device; loaded again in a process that never saw it.

    Args:
        key: From ``load``.
        device: Where it is wanted.
        towers: The cache, which ``load`` fills on the CPU.
        load: Loads a model's weights, by name and tag or path.

    Raises:
        RuntimeError: If the weights on disk are no longer those of the key.
    """
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    place = (key.spec.model, key.weights_hash, device)
    if place not in towers:
        master = (key.spec.model, key.weights_hash, torch.device("cpu"))
        if master not in towers:
            found = load(key.spec.model, key.spec.pretrained).weights_hash
            if found != key.weights_hash:
                raise RuntimeError(
                    f"The image weights {key.spec.pretrained!r} of {key.spec.model!r} must be those the model was "
                    f"built with, SHA-256 {key.weights_hash}. Got {found}."
                )
        if place != master:
            towers[place] = towers[master].copy_to(device)
    return towers[place]
