"""Patch tokens of open_clip's vision transformer (B images, H x W pixels, h x w patches, L = 1 + h·w tokens, C width,
D embedding)."""

from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor
from torch.nn.functional import interpolate, linear, scaled_dot_product_attention

from subpt_dense.vision.modes import DenseMode


class DenseTransformer:
    """All tokens of a :class:`open_clip.transformer.VisionTransformer` in CLIP's joint space, at any image size.

    Args:
        visual: The tower, in eval mode.

    Attributes:
        stride: Pixels a patch, both ways.

    Raises:
        ValueError: If the tower is no plain CLIP transformer: other blocks, an attentional pool, oblong patches.
    """

    def __init__(self, visual: VisionTransformer) -> None:
        self._visual: Any = visual
        (self.stride, width), problems = visual.patch_size, []
        if self.stride != width:
            problems.append(f"patches of {self.stride} x {width} pixels")
        if visual.attn_pool is not None or visual.pool_type == "none":
            problems.append("an attentional pool")
        kinds = {type(block).__name__ for block in visual.transformer.resblocks} - {ResidualAttentionBlock.__name__}
        problems += [f"blocks of type {kind}" for kind in sorted(kinds)]
        if problems:
            raise ValueError(
                "A vision transformer that is read patch by patch must have square patches, CLIP's own blocks and no "
                f"attentional pool. Got {', '.join(problems)}."
            )

    def tokens(self, images: Tensor, mode: DenseMode) -> Tensor:
        """``[B, L, D]``, not normalised; the class token first, then the patches row by row.

        Args:
            images: ``[B, 3, H, W]``, normalised as the CLIP was trained; H and W multiples of :attr:`stride`.
            mode: How the last block is computed. With ``vanilla``, residual and MLP every token is CLIP's own, and the
                class token is the image embedding of a tower that is pooled there.
        """
        visual = self._visual
        hidden = visual.conv1(images)  # [B, C, h, w]
        positions = self._positions(hidden.shape[-2], hidden.shape[-1]).to(hidden.dtype)
        hidden = hidden.flatten(2).transpose(1, 2)  # [B, h·w, C]
        first = visual.class_embedding.to(hidden.dtype).expand(len(hidden), 1, -1)
        hidden = visual.ln_pre(torch.cat([first, hidden], dim=1) + positions)
        *blocks, last = visual.transformer.resblocks
        for block in blocks:
            hidden = block(hidden)
        hidden = visual.ln_post(_last_block(last, hidden, mode))
        return hidden if visual.proj is None else hidden @ visual.proj

    def dense(self, images: Tensor, mode: DenseMode) -> Tensor:
        """The patches of :meth:`tokens` as a map ``[B, D, h, w]``."""
        patches = self.tokens(images, mode)[:, 1:]
        height, width = (side // self.stride for side in images.shape[-2:])
        return patches.transpose(1, 2).reshape(len(images), -1, height, width)

    def _positions(self, height: int, width: int) -> Tensor:
        """``[L, C]``: the class token's, and the grid's, resized to the size of another grid (bicubic, half-pixel
        centres, as ViT does). SCLIP and ClearCLIP hand a factor over, ``(h + 0.1) / side``: their centres lie up to
        a tenth of a patch elsewhere."""
        known, grid = self._visual.positional_embedding, self._visual.grid_size
        if (height, width) == tuple(grid):
            return known
        cells = known[1:].float().unflatten(0, grid).permute(2, 0, 1)[None]  # [1, C, grid]
        resized = interpolate(cells, size=(height, width), mode="bicubic", align_corners=False)
        return torch.cat([known[:1], resized[0].flatten(1).T.to(known.dtype)])


def _last_block(block: ResidualAttentionBlock, hidden: Tensor, mode: DenseMode) -> Tensor:
    attended = block.ls_1(_attend(block.attn, block.ln_1(hidden), mode.attention))
    hidden = hidden + attended if mode.residual else attended
    return hidden + block.ls_2(block.mlp(block.ln_2(hidden))) if mode.mlp else hidden


def _attend(attn: Any, hidden: Tensor, attention: str) -> Tensor:
    """Self-attention ``[B, L, C]`` with the block's own weights."""
    width = hidden.shape[-1]
    if attention == "value":  # queries and keys are not needed at all
        mixed = linear(hidden, attn.in_proj_weight[-width:], attn.in_proj_bias[-width:])
    else:
        packed = linear(hidden, attn.in_proj_weight, attn.in_proj_bias).unflatten(-1, (3, attn.num_heads, -1))
        query, key, value = packed.permute(2, 0, 3, 1, 4)  # each [B, heads, L, C / heads]
        pairs = {"vanilla": [(query, key)], "qq": [(query, query)], "csa": [(query, query), (key, key)]}[attention]
        parts = [scaled_dot_product_attention(left, right, value) for left, right in pairs]
        mixed = sum(parts[1:], start=parts[0]).transpose(1, 2).flatten(2)
    return attn.out_proj(mixed)
