"""One process-wide cache of text towers: loaded once, copied per device and precision, found again by key."""

from pathlib import Path

import open_clip
import torch

from subpt_dense.text.spec import TextSpec, TowerKey
from subpt_dense.text.tower import TextTower
from subpt_dense.text.weights import Shapes, check_model, explain_mismatch, read_shapes, resolve_weights

_File = tuple[str, str, int, int]  # model, path, size, time of last change

_HASHES: dict[_File, str] = {}
_TOWERS: dict[tuple[str, str, torch.device, torch.dtype], TextTower] = {}  # model, weights hash, device, dtype


@torch.inference_mode(False)  # what is kept here will meet a graph, wherever it was first asked for
def load_tower(spec: TextSpec) -> TowerKey:
    """Load a text tower into the cache, once per process and weights file, and give the key that finds it again.

    Args:
        spec: Model, weights and precision.

    Raises:
        FileNotFoundError: If ``pretrained`` is neither a tag of the model nor a file.
        RuntimeError: If a tag's weights cannot be downloaded.
        ValueError: If the model is unknown or cannot serve as a prompt's text tower, or the weights are corrupt or
            another model's.
    """
    check_model(spec.model)
    path = resolve_weights(spec)
    stat = path.stat()
    file = (spec.model, str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if file not in _HASHES:
        with torch.random.fork_rng(devices=()):  # building a model draws numbers; the caller's seed must not feel it
            tower = _load(spec, path)
        _TOWERS.setdefault((spec.model, tower.weights_hash, tower.device, tower.dtype), tower)
        _HASHES[file] = tower.weights_hash
    return TowerKey(spec=spec, weights_hash=_HASHES[file])


@torch.inference_mode(False)
def get_tower(key: TowerKey, device: torch.device | str) -> TextTower:
    """The tower behind a key, on a device, in the key's precision; loaded again in a process that never saw it.

    Args:
        key: From :func:`load_tower`.
        device: Where the context lives.

    Raises:
        RuntimeError: If the weights on disk are no longer those of the key.
    """
    device = _with_index(torch.device(device))
    place = (key.spec.model, key.weights_hash, device, key.spec.dtype)
    if place not in _TOWERS:
        master = (key.spec.model, key.weights_hash, torch.device("cpu"), torch.float32)
        if master not in _TOWERS:
            found = load_tower(key.spec).weights_hash
            if found != key.weights_hash:
                raise RuntimeError(
                    f"The weights {key.spec.pretrained!r} of {key.spec.model!r} must be those of the key, SHA-256 "
                    f"{key.weights_hash}. Got {found}."
                )
        if place != master:
            _TOWERS[place] = _TOWERS[master].copy_to(device, key.spec.dtype)
    return _TOWERS[place]


def _with_index(device: torch.device) -> torch.device:
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu") if device.type == "cpu" else device


def _load(spec: TextSpec, path: Path) -> TextTower:
    shapes = read_shapes(path)
    try:
        clip = open_clip.create_model(spec.model, pretrained=str(path), precision="fp32", require_pretrained=True)
    except Exception as error:  # open_clip raises whatever its conversions stumble over
        wanted = open_clip.create_model(spec.model, load_weights=False)
        raise ValueError(explain_mismatch(spec, path, shapes, wanted) or str(error)) from error
    _check_positions(spec, path, shapes, clip)
    return TextTower.from_open_clip(clip, model=spec.model, pretrained=spec.pretrained)


def _check_positions(spec: TextSpec, path: Path, shapes: Shapes, clip: torch.nn.Module) -> None:
    """Refuse text positions of another length: open_clip interpolates them without a word."""
    found = shapes.get("positional_embedding") or shapes.get("text.positional_embedding")
    length = clip.context_length
    if found is not None and found[0] != length:
        raise ValueError(
            f"`pretrained` of TextSpec must hold the weights of {spec.model!r}, which reads {length} tokens. "
            f"{str(path)!r} has text positions for {found[0]}."
        )
