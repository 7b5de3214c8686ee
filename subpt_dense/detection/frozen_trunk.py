"""CLIP's convolutional image tower, frozen, loaded once a process, outside every module tree.

Legend: B images, H x W pixels, C channels and h x w cells of the last map, G cells a side at the tower's own image
size, N regions, D embedding.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any, cast

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from subpt_dense.text import TextSpec, TowerKey, encode_texts, get_tower, load_tower
from subpt_dense.text.weights import resolve_weights
from subpt_dense.vision.digest import weights_digest as _digest
from subpt_dense.vision.tower_cache import File, Place, build_clip, file_key, find_tower

_HASHES: dict[File, str] = {}
_TRUNKS: dict[Place, "FrozenTrunk"] = {}


class FrozenTrunk:
    """The image half of a CLIP built on a ModifiedResNet or a convolutional timm network, in eval mode for good.

    No module: no host can initialise, train, move or save it. Computes without gradient, under the caller's autocast.

    Args:
        visual: open_clip's image tower, float32.
        embed_dim: D.
        text_hash: SHA-256 of the same CLIP's text weights.
        background: Unit row ``[D]`` of the text "background".

    Attributes:
        stages: Number of stages; the stem counts where the network counts it (ModifiedResNet: 5, ConvNeXt: 4).
        stride: Pixels a cell of the last map.
        grid: G.
        weights_hash: SHA-256 of the image weights.

    Raises:
        ValueError: If the tower's last map is not ``[B, C, h, w]``.
    """

    def __init__(self, visual: nn.Module, *, embed_dim: int, text_hash: str, background: Tensor) -> None:
        self._visual = cast(Any, visual.eval().requires_grad_(False))
        self.embed_dim = embed_dim
        self.text_hash = text_hash
        self.background = background
        self.weights_hash = _digest(visual)
        if isinstance(visual, ModifiedResNet):
            self.stages, self.stride = 5, 32
            # The attention pool has positions for its own grid only, and the mean token.
            self.grid = math.isqrt(visual.attnpool.positional_embedding.shape[0] - 1)
        else:
            facts = self._visual.trunk.feature_info
            self.stages, self.stride = len(facts), facts[-1]["reduction"]
            self.grid = self._timm_grid()

    def _timm_grid(self) -> int:
        side = self._visual.image_size[0]
        with torch.no_grad():
            last = self._visual.trunk.forward_features(torch.zeros(1, 3, side, side))
        grid = side // self.stride
        if last.shape[1:] != (self._visual.trunk.num_features, grid, grid):
            raise ValueError(
                f"The image tower of a frozen trunk must end in a map [B, {self._visual.trunk.num_features}, {grid}, "
                f"{grid}], as a convolutional network does. Got {list(last.shape)}."
            )
        return grid

    @torch.no_grad()
    def maps(self, images: Tensor, indices: Sequence[int]) -> tuple[tuple[Tensor, ...], Tensor]:
        """Feature maps.

        Args:
            images: ``[B, 3, H, W]``, normalised as the CLIP was trained.
            indices: Stages to return, each in 0..stages-1.

        Returns:
            The maps of those stages, and the last map ``[B, C, h, w]``, which :meth:`pool` takes parts of.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        wanted = sorted({*indices, self.stages - 1})
        if isinstance(self._visual, ModifiedResNet):
            found = self._visual.forward_intermediates(images, indices=wanted, intermediates_only=True)
            maps = found["image_intermediates"]
            last = maps[-1]
        else:
            last, maps = self._visual.trunk.forward_intermediates(images, indices=wanted)
        by_stage = dict(zip(wanted, maps, strict=True))
        return tuple(by_stage[index] for index in indices), last

    @torch.no_grad()
    def pool(self, cells: Tensor) -> Tensor:
        """What CLIP makes of a last map: the attention pool of a ModifiedResNet, head and projection of a timm network.

        Args:
            cells: ``[N, C, G, G]`` float32.

        Returns:
            ``[N, D]``, not normalised, as ``encode_image`` gives it.
        """
        if isinstance(self._visual, ModifiedResNet):
            return self._visual.attnpool(cells)
        return self._visual.head(self._visual.trunk.forward_head(cells))

    def copy_to(self, device: torch.device) -> "FrozenTrunk":
        """An independent copy on ``device``."""
        twin = copy.copy(self)
        twin._visual = copy.deepcopy(self._visual).to(device)
        twin.background = self.background.to(device)
        return twin


@torch.inference_mode(False)
def load_trunk(model: str, pretrained: str) -> TowerKey:
    """Load a trunk into the cache, once a process and weights file, and give the key that finds it again.

    Args:
        model: An open_clip model name; OpenAI's weights want ``RN50-quickgelu`` and the like.
        pretrained: One of open_clip's tags for the model, or the path of a weights file.

    Returns:
        The key; its ``weights_hash`` is that of the image weights.

    Raises:
        FileNotFoundError, RuntimeError: As for the text tower of the same CLIP.
        ValueError: Likewise, or if the image tower is not convolutional.
    """
    spec = TextSpec(model, pretrained)
    _check_convolutional(model)
    text = load_tower(spec)  # refuses unknown models and wrong weights, and is what the prompt head will ask for
    path = resolve_weights(spec)
    file = file_key(model, path)
    if file not in _HASHES:
        clip = build_clip(model, path)
        (background,) = encode_texts(get_tower(text, "cpu"), ["background"])
        trunk = FrozenTrunk(
            clip.visual,
            embed_dim=open_clip.get_model_config(model)["embed_dim"],
            text_hash=text.weights_hash,
            background=background,
        )
        _TRUNKS.setdefault((model, trunk.weights_hash, torch.device("cpu")), trunk)
        _HASHES[file] = trunk.weights_hash
    return TowerKey(spec=spec, weights_hash=_HASHES[file])


@torch.inference_mode(False)
def get_trunk(key: TowerKey, device: torch.device | str) -> FrozenTrunk:
    """The trunk behind a key, on a device; loaded again in a process that never saw it.

    Raises:
        RuntimeError: If the weights on disk are no longer those of the key.
    """
    return find_tower(key, device, _TRUNKS, load_trunk)


def _check_convolutional(model: str) -> None:
    """Refuse CLIP's own transformers before their weights are loaded; a model open_clip does not know comes later."""
    config = open_clip.get_model_config(model)
    if config is None:
        return
    vision = config["vision_cfg"]
    if "timm_model_name" not in vision and not isinstance(vision.get("layers"), (list, tuple)):
        raise ValueError(
            "`model` of a frozen trunk must have a ModifiedResNet or a convolutional timm network as its image tower, "
            f"such as 'RN50-quickgelu' or 'convnext_base'. Got {model!r}."
        )
