"""A frozen CLIP image tower, read cell by cell (B images, H x W pixels, h x w cells, D embedding)."""

import copy
from typing import cast

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from subpt_dense.vision.convolutional import DenseResNet, DenseTimm
from subpt_dense.vision.digest import weights_digest
from subpt_dense.vision.modes import DenseMode
from subpt_dense.vision.transformer import DenseTransformer


class DenseTower:
    """Dense features of an open_clip image tower in the space of the text rows; in eval mode for good, float32.

    No module: no host can initialise, train, move or save it. Computes without gradient, under the caller's autocast.

    Args:
        visual: A VisionTransformer, a ModifiedResNet, or a convolutional timm network.
        embed_dim: D.
        scale: The CLIP's ``exp(logit_scale)``.
        text_hash: SHA-256 of the same CLIP's text weights.

    Attributes:
        stride: Pixels a cell, both ways.
        default_mode: The mode where none is asked for; ``None`` for a network that has only one way.
        weights_hash: SHA-256 of the image weights.

    Raises:
        ValueError: If the tower is of another kind.
    """

    def __init__(self, visual: nn.Module, *, embed_dim: int, scale: float, text_hash: str) -> None:
        self._visual = visual.eval().requires_grad_(False)
        self._dense = _reader_of(self._visual)
        self.embed_dim = embed_dim
        self.scale = scale
        self.text_hash = text_hash
        self.stride = self._dense.stride
        self.default_mode = DenseMode() if isinstance(self._dense, DenseTransformer) else None
        self.weights_hash = weights_digest(self._visual)

    def check_mode(self, mode: DenseMode | None) -> DenseMode | None:
        """The mode that :meth:`dense` computes when it is asked for ``mode``.

        Raises:
            ValueError: If a mode is asked of a convolutional network, which has no last block to compute otherwise.
        """
        if self.default_mode is not None:
            return mode or self.default_mode
        if mode is not None:
            raise ValueError(
                f"`attention`, `residual` and `mlp` are for vision transformers: {type(self._visual).__name__} has one "
                f"way to be read cell by cell. Got {mode}: leave them out."
            )
        return None

    @torch.no_grad()
    def dense(self, images: Tensor, mode: DenseMode | None = None) -> Tensor:
        """Unnormalised features of every cell.

        Args:
            images: ``[B, 3, H, W]``, normalised as the CLIP was trained. H and W must be multiples of :attr:`stride`:
                nothing is cropped or padded here, for then cells would no longer tile the image. B may be 0.
            mode: How a vision transformer's last block is computed; CLIP's own way by default.

        Returns:
            ``[B, D, H / stride, W / stride]``.

        Raises:
            ValueError: If the images are of another shape, or the mode is not for this tower.
        """
        sides = images.shape[-2:]
        if images.ndim != 4 or images.shape[1] != 3 or any(side == 0 or side % self.stride for side in sides):
            raise ValueError(
                f"`images` of a dense image tower must have shape [B, 3, H, W], H and W multiples of {self.stride}. "
                f"Got {list(images.shape)}: set the data preprocessor's `size_divisor` to {self.stride}, in `test_cfg` "
                "too, and a sliding window's sides to multiples of it."
            )
        mode = self.check_mode(mode)
        if not len(images):
            return images.new_zeros(0, self.embed_dim, *(side // self.stride for side in sides))
        if isinstance(self._dense, DenseTransformer):
            return self._dense.dense(images, cast(DenseMode, mode))
        return self._dense.dense(images)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """CLIP's own image embeddings ``[B, D]``, not normalised, as ``encode_image`` gives them.

        Args:
            images: ``[B, 3, S, S]`` of the tower's own size, normalised as the CLIP was trained.
        """
        if not len(images):
            return images.new_zeros(0, self.embed_dim)
        found = self._visual(images)
        return found[0] if isinstance(found, tuple) else found  # a tower may give its tokens, too

    @property
    def size(self) -> int:
        """S, the side in pixels of the images that the tower was trained on."""
        size = cast(int | tuple[int, int], self._visual.image_size)
        return size[0] if isinstance(size, tuple) else size

    def copy_to(self, device: torch.device) -> "DenseTower":
        """An independent copy on ``device``."""
        twin = copy.copy(self)
        twin._visual = copy.deepcopy(self._visual).to(device)
        twin._dense = copy.copy(self._dense)
        twin._dense._visual = twin._visual
        return twin


def _reader_of(visual: nn.Module) -> DenseTransformer | DenseResNet | DenseTimm:
    if isinstance(visual, VisionTransformer):
        return DenseTransformer(visual)
    if isinstance(visual, ModifiedResNet):
        return DenseResNet(visual)
    if isinstance(visual, TimmModel):
        return DenseTimm(visual)
    raise ValueError(
        "A dense image tower must be open_clip's VisionTransformer, ModifiedResNet or a convolutional timm network. "
        f"Got {type(visual).__name__}."
    )
