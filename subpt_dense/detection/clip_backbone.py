"""A CLIP's convolutional image tower as a frozen mmdet backbone (B images, H x W pixels, C channels)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from subpt_dense.detection.frozen_trunk import get_trunk, load_trunk
from subpt_dense.detection.vlm_pool import RegionMap
from subpt_dense.prompts.held import Held
from subpt_dense.registry import MODELS


@MODELS.register_module()
class FrozenCLIPBackbone(BaseModule):
    """Feature maps of a frozen CLIP (F-VLM, arXiv 2209.15639), without gradient, always in eval mode.

    The tower is no submodule: it has no parameters here for an optimizer, ``init_weights``, DDP or an EMA, it keeps no
    memory for backward, and a checkpoint of the detector holds its hash in place of its weights. Copies and pickles
    carry a key and find the tower again; it follows the images to their device. For a trunk that is trained further,
    see :class:`subpt_dense.detection.CLIPTrunk`.

    Args:
        model: An open_clip model with a ModifiedResNet (``"RN50-quickgelu"``) or a convolutional timm network
            (``"convnext_base"``) as its image tower.
        pretrained: One of open_clip's tags for the model, or the path of a weights file.
        out_indices: Stages to return, in rising order; by default the last four, C2 to C5.

    Raises:
        FileNotFoundError, RuntimeError: If the weights cannot be had.
        ValueError: If the tower is not convolutional, the weights are another model's, or a stage does not exist; from
            loading a checkpoint, if it was trained on another trunk.
    """

    weights_sha256: Tensor

    def __init__(self, model: str, pretrained: str, out_indices: Sequence[int] = (-4, -3, -2, -1)) -> None:
        super().__init__()
        self.key = load_trunk(model, pretrained)
        trunk = get_trunk(self.key, "cpu")
        self.text_hash = trunk.text_hash
        stages = trunk.stages
        indices = [index + stages * (index < 0) for index in out_indices]
        if not indices or indices != sorted(set(indices)) or not 0 <= indices[0] <= indices[-1] < stages:
            raise ValueError(
                f"`out_indices` of FrozenCLIPBackbone must be rising stages in [{-stages}, {stages - 1}] for "
                f"{model!r}. Got {list(out_indices)}."
            )
        self.out_indices = tuple(indices)
        digest = list(bytes.fromhex(self.key.weights_hash))
        self.register_buffer("weights_sha256", torch.tensor(digest, dtype=torch.uint8))  # [32]
        self._regions: Held[RegionMap] = Held()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps ``[B, C, H / stride, W / stride]`` of the asked stages.

        Args:
            images: ``[B, 3, H, W]``, normalised as the CLIP was trained.
        """
        trunk = get_trunk(self.key, images.device)
        maps, last = trunk.maps(images, self.out_indices)
        self._regions.put(RegionMap(trunk, last))
        return maps

    def take_regions(self) -> RegionMap | None:
        """Where regions of the last batch can be embedded, once; the backbone then lets go of it."""
        return self._regions.take()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        found = state_dict.get(prefix + "weights_sha256")
        if found is not None:
            other = bytes(found.cpu().tolist()).hex()
            if other != self.key.weights_hash:
                raise ValueError(
                    "The checkpoint must come from the frozen trunk of this config, whose weights have the SHA-256 "
                    f"{self.key.weights_hash} ({self.key.spec.model!r}, {self.key.spec.pretrained!r}). Got {other}."
                )
        super()._load_from_state_dict(state_dict, prefix, *args)
