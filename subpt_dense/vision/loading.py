"""Dense image towers, loaded once a process and found again by key."""

import open_clip
import torch

from subpt_dense.text import TextSpec, TowerKey, load_tower
from subpt_dense.text.weights import resolve_weights
from subpt_dense.vision.dense import DenseTower
from subpt_dense.vision.tower_cache import File, Place, build_clip, file_key, find_tower

_HASHES: dict[File, str] = {}
_TOWERS: dict[Place, DenseTower] = {}


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
    file = file_key(model, path)
    if file not in _HASHES:
        clip = build_clip(model, path)
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
    return find_tower(key, device, _TOWERS, load_dense_tower)
