"""A frozen CLIP's dense features as an mmseg backbone (B images, H x W pixels, h x w cells, D embedding)."""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from subpt_dense.registry import MODELS
from subpt_dense.vision import DenseMode, get_dense_tower, load_dense_tower


@MODELS.register_module()
class DenseCLIPBackbone(BaseModule):
    """One map of a CLIP image tower's cells in the space of the text rows, frozen, without gradient, in eval mode.

    The tower is no submodule: it has no parameters here for an optimizer, ``init_weights``, DDP or an EMA, it keeps no
    memory for backward, and a checkpoint of the segmentor holds its hash in place of its weights. Copies and pickles
    carry a key and find the tower again; it follows the images to their device.

    The switches recompute the last block of a vision transformer, see :class:`subpt_dense.vision.DenseMode`; CLIP's own
    block is ``vanilla`` with both kept. MaskCLIP is ``value`` without either, SCLIP ``csa`` with both, ClearCLIP ``qq``
    without either. A ModifiedResNet is always read as MaskCLIP reads it, other convolutional networks cell by cell:
    leave the switches out there.

    Args:
        model: An open_clip model: ``"ViT-B-16-quickgelu"``, ``"RN50-quickgelu"``, ``"convnext_base"``.
        pretrained: One of open_clip's tags for the model, or the path of a weights file.
        attention: ``"vanilla"`` (default), ``"value"``, ``"qq"`` or ``"csa"``.
        residual: Whether the last block keeps its residual connection (default: yes).
        mlp: Whether it keeps its MLP (default: yes).

    Attributes:
        embed_dim: D.
        stride: Pixels a cell; images must have sides that are multiples of it.
        scale: The CLIP's ``exp(logit_scale)``.
        text_hash: SHA-256 of the same CLIP's text weights.
        mode: The switches, or ``None`` for a convolutional network.

    Raises:
        FileNotFoundError, RuntimeError: If the weights cannot be had.
        ValueError: If the tower cannot be read cell by cell, a switch is unknown or not for it, or the weights are
            another model's; from loading a checkpoint, if it was trained on another tower.
    """

    weights_sha256: Tensor

    def __init__(
        self,
        model: str,
        pretrained: str,
        attention: str | None = None,
        residual: bool | None = None,
        mlp: bool | None = None,
    ) -> None:
        super().__init__()
        given = {"attention": attention, "residual": residual, "mlp": mlp}
        chosen: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        self.key = load_dense_tower(model, pretrained)
        tower = get_dense_tower(self.key, "cpu")
        self.mode = tower.check_mode(DenseMode(**chosen) if chosen else None)
        self.embed_dim, self.stride, self.scale = tower.embed_dim, tower.stride, tower.scale
        self.text_hash = tower.text_hash
        digest = list(bytes.fromhex(self.key.weights_hash))
        self.register_buffer("weights_sha256", torch.tensor(digest, dtype=torch.uint8))  # [32]

    def identity(self) -> dict[str, Any]:
        """What tells these maps from any other tower's or mode's: ``model``, ``weights_hash`` and ``mode``."""
        mode = None if self.mode is None else self.mode.to_dict()
        return {"model": self.key.spec.model, "weights_hash": self.key.weights_hash, "mode": mode}

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """One map ``[B, D, H / stride, W / stride]``, not normalised.

        Args:
            images: ``[B, 3, H, W]``, normalised as the CLIP was trained.

        Raises:
            ValueError: If a side is no multiple of the stride.
        """
        return (get_dense_tower(self.key, images.device).dense(images, self.mode),)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        found = state_dict.get(prefix + "weights_sha256")
        if found is not None:
            other = bytes(found.cpu().tolist()).hex()
            if other != self.key.weights_hash:
                raise ValueError(
                    "The checkpoint must come from the frozen tower of this config, whose weights have the SHA-256 "
                    f"{self.key.weights_hash} ({self.key.spec.model!r}, {self.key.spec.pretrained!r}). Got {other}."
                )
        super()._load_from_state_dict(state_dict, prefix, *args)
