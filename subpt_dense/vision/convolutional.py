"""Cells of CLIP's convolutional image towers in the joint space (B images, C channels and h x w cells of the last map,
D embedding)."""

from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import Tensor


class DenseResNet:
    """A ModifiedResNet whose attention pool is read cell by cell: the value projection, then the output's, no attention
    and no positions (MaskCLIP, arXiv 2112.01071, section 3.2).

    Attributes:
        stride: Pixels a cell.
    """

    stride = 32

    def __init__(self, visual: ModifiedResNet) -> None:
        self._visual: Any = visual

    def dense(self, images: Tensor) -> Tensor:
        """``[B, D, h, w]`` of normalised images ``[B, 3, H, W]``."""
        visual = self._visual
        images = images.contiguous(memory_format=torch.channels_last)
        for stage in (visual.stem, visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            images = stage(images)
        cells = images.permute(0, 2, 3, 1)  # [B, h, w, C]
        return visual.attnpool.c_proj(visual.attnpool.v_proj(cells)).permute(0, 3, 1, 2).contiguous()


class DenseTimm:
    """A convolutional timm network, each cell of whose last map goes through the network's head and CLIP's projection
    alone. Where these are linear behind a mean, the mean of the cells is the image embedding (the toy tower).

    Args:
        visual: The tower, in eval mode.

    Attributes:
        stride: Pixels a cell.

    Raises:
        ValueError: If the tower does not end in a map, or pools with attention.
    """

    def __init__(self, visual: TimmModel) -> None:
        self._visual: Any = visual
        facts = getattr(visual.trunk, "feature_info", None)
        if facts is None or hasattr(visual.head, "pool"):
            raise ValueError(
                "A timm image tower that is read cell by cell must be convolutional, without an attention pool. "
                f"Got {type(visual.trunk).__name__}{' with one' if facts is not None else ''}."
            )
        self.stride: int = facts[-1]["reduction"]
        grid = tuple(side // self.stride for side in visual.image_size)
        with torch.no_grad():
            last = visual.trunk.forward_features(torch.zeros(1, 3, *visual.image_size))
        if last.shape[1:] != (visual.trunk.num_features, *grid):
            raise ValueError(
                "A timm image tower that is read cell by cell must end in a map, as a convolutional network does: "
                f"[B, {visual.trunk.num_features}, {grid[0]}, {grid[1]}] for its own image size. "
                f"{type(visual.trunk).__name__} gives {list(last.shape)}."
            )

    def dense(self, images: Tensor) -> Tensor:
        """``[B, D, h, w]`` of normalised images ``[B, 3, H, W]``."""
        last = self._visual.trunk.forward_features(images.contiguous(memory_format=torch.channels_last))
        cells = last.permute(0, 2, 3, 1).reshape(-1, last.shape[1], 1, 1)  # every cell an image of its own
        found = self._visual.head(self._visual.trunk.forward_head(cells))  # [B·h·w, D]
        return found.unflatten(0, (len(last), *last.shape[-2:])).permute(0, 3, 1, 2).contiguous()
