"""The convolutional trunk of a CLIP image tower as an mmdet backbone."""

from collections.abc import Sequence

import open_clip
import torch
from mmengine.model import BaseModule
from open_clip.timm_model import TimmModel
from torch import Tensor

from subpt_dense.registry import MODELS


@MODELS.register_module()
class CLIPTrunk(BaseModule):
    """Feature maps of an open_clip image tower built on a timm network; trained further or frozen with the detector.

    Args:
        model: An open_clip model name with a timm image tower.
        pretrained: Path of a checkpoint or an open_clip tag; None starts from random weights.
        out_indices: Stages to return, as timm counts them; the stem is stage 0.

    Raises:
        ValueError: If the image tower is not a timm network.
    """

    def __init__(self, model: str, pretrained: str | None, out_indices: Sequence[int] = (-1,)) -> None:
        super().__init__()
        visual = open_clip.create_model(model, pretrained=pretrained).visual
        if not isinstance(visual, TimmModel):
            raise ValueError(
                f"`model` of CLIPTrunk must be an open_clip model with a timm image tower. Got {model!r}, "
                f"whose tower is a {type(visual).__name__}."
            )
        self.trunk = visual.trunk
        stages = len(self.trunk.feature_info)
        self.out_indices = [index % stages for index in out_indices]

    def init_weights(self) -> None:
        """Nothing to do: the constructor has loaded the weights, and timm's own ``init_weights`` would wipe them."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps ``[B, C, H / stride, W / stride]`` of the asked stages for images ``[B, 3, H, W]``."""
        x = x.contiguous(memory_format=torch.channels_last)
        return tuple(self.trunk.forward_intermediates(x, indices=self.out_indices, intermediates_only=True))
