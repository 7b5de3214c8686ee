"""Dense image towers, loaded once a process and found again by key."""

import open_clip
import torch

from subpt_dense.text import TextSpec, TowerKey, load_tower
from subpt_dense.text.weights import resolve_weights
from subpt_dense.vision.dense import DenseTower

_File = tuple[str, str, int, int]  # model, path, size, time of last change

_HASHES: dict[_File, str] = {}
_TOWERS: dict[tuple[str, str, torch.device], DenseTower] = {}  # model, weights hash, device


@torch.inference_mode(False)
def load_dense_tower(model: str, pretrained: str) -> TowerKey:
    """Load a tower into the cache, once a process and weights file, and give the key that finds it again.

    Args:
        model: An open_clip model name; OpenAI's weights want ``ViT-B-16-quickgelu`` and the like.
        pretrained: One of open_clip's tags for the model, or the path of a weights file.

    Returns:
        The key; its ``weights_hash`` is that of the image weights, its precision float32.

    Raises:
        FileNotFoundError, RuntimeError: As for the text tower of the same CLIP.
        ValueError: Likewise, or if the image tower cannot be read cell by cell.
    """
    spec = TextSpec(model, pretrained)
    text = load_tower(spec)  # refuses unknown models and wrong weights, and is what the prompt head will ask for
    path = resolve_weights(spec)
    stat = path.stat()
    file = (model, str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if file not in _HASHES:
        with torch.random.fork_rng(devices=()):  # building a model draws numbers; the caller's seed must not feel it
            clip = open_clip.create_model(model, pretrained=str(path), precision="fp32", require_pretrained=True)
        tower = DenseTower(
            clip.visual,
            embed_dim=open_clip.get_model_config(model)["embed_dim"],
            scale=clip.logit_scale.detach().float().exp().item(),
            text_hash=text.weights_hash,
        )
        _TOWERS.setdefault((model, tower.weights_hash, torch.device("cpu")), tower)
        _HASHES[file] = tower.weights_hash
    return TowerKey(spec=spec, weights_hash=_HASHES[file])


@torch.inference_mode(False)
def get_dense_tower(key: TowerKey, device: torch.device | str) -> DenseTower:
    """The tower behind a key, on a device; loaded again in a process that never saw it.

    Raises:
        RuntimeError: If the weights on disk are no longer those of the key.
    """
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    place = (key.spec.model, key.weights_hash, device)
    if place not in _TOWERS:
        master = (key.spec.model, key.weights_hash, torch.device("cpu"))
        if master not in _TOWERS:
            found = load_dense_tower(key.spec.model, key.spec.pretrained).weights_hash
            if found != key.weights_hash:
                raise RuntimeError(
                    f"The image weights {key.spec.pretrained!r} of {key.spec.model!r} must be those the model was "
                    f"built with, SHA-256 {key.weights_hash}. Got {found}."
                )
        if place != master:
            _TOWERS[place] = _TOWERS[master].copy_to(device)
    return _TOWERS[place]
