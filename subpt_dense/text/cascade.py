"""Attention of packed suffixes to one shared prefix and to themselves (H heads of d, P prefix tokens, T tokens).

One softmax over both parts makes it the attention of the whole prompt. The prefix enters as one matrix product for all
suffixes, so its keys and values are never copied N times; autograd would keep and copy more than this needs, hence the
derivative by hand. Prior art for sharing a prefix in training: PrefixGrouper (arXiv 2506.05433).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def cascade_attention(qkv: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Mix values over prefix and own suffix, scores scaled by ``d**-0.5``; the softmax is in float32 or wider.

    Args:
        qkv: The suffixes' queries, keys and values side by side, ``[T, 3 H d]``.
        keys: The prefix's, ``[H, P, d]``.
        values: The prefix's, ``[H, P, d]``.
        mask: Added within tiles, ``[T / B, B, B]`` (see :class:`subpt_dense.text.tiles.Tiles`).

    Returns:
        ``[T, H d]`` in the dtype of ``qkv``, differentiable once.
    """
    return _Cascade.apply(qkv, keys, values, mask)


class _Cascade(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        heads, prefix, depth = keys.shape
        tiles, size, _ = mask.shape
        packed = qkv.view(-1, 3, heads, depth).permute(1, 2, 0, 3).contiguous()  # [3, H, T, d]
        query, key, value = packed
        tiled = (heads * tiles, size, depth)
        own = torch.bmm(query.view(tiled), key.view(tiled).transpose(1, 2))  # [H T/B, B, B]
        own.view(heads, tiles, size, size).add_(mask)
        scores = torch.cat([torch.bmm(query, keys.transpose(1, 2)), own.view(heads, -1, size)], dim=2)  # [H, T, P + B]
        wide = torch.promote_types(qkv.dtype, torch.float32)
        weights = torch.softmax(scores.mul_(depth**-0.5), dim=2, dtype=wide).to(qkv.dtype)
        mixed = torch.bmm(weights[:, :, :prefix], values)  # [H, T, d]
        mixed.view(tiled).baddbmm_(weights[:, :, prefix:].view(-1, size, size), value.view(tiled))
        ctx.save_for_backward(packed, keys, values, weights)
        return mixed.transpose(0, 1).reshape(qkv.shape[0], heads * depth)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        with torch.autocast(grad.device.type, enabled=False):  # as in forward, wherever backward is called
            return _Cascade._backward(ctx, grad)

    @staticmethod
    def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        packed, keys, values, weights = ctx.saved_tensors
        query, key, value = packed
        heads, prefix, depth = keys.shape
        size = weights.shape[2] - prefix
        tiled, square = (-1, size, depth), (-1, size, size)
        grad = grad.view(-1, heads, depth).transpose(0, 1).contiguous()  # [H, T, d]
        onto_own = torch.bmm(grad.view(tiled), value.view(tiled).transpose(1, 2)).view(heads, -1, size)
        scores = torch.cat([torch.bmm(grad, values.transpose(1, 2)), onto_own], dim=2)  # [H, T, P + B]
        scores = _softmax_backward(scores, weights).mul_(depth**-0.5)
        onto_prefix, onto_own = scores[:, :, :prefix], scores[:, :, prefix:].view(square)
        found = torch.empty_like(packed)
        torch.bmm(onto_prefix, keys, out=found[0])
        found[0].view(tiled).baddbmm_(onto_own, key.view(tiled))
        torch.bmm(onto_own.transpose(1, 2), query.view(tiled), out=found[1].view(tiled))
        torch.bmm(weights[:, :, prefix:].view(square).transpose(1, 2), grad.view(tiled), out=found[2].view(tiled))
        return (
            found.permute(2, 0, 1, 3).reshape(grad.shape[1], -1),
            torch.bmm(onto_prefix.transpose(1, 2), query),
            torch.bmm(weights[:, :, :prefix].transpose(1, 2), grad),
            None,
        )


def _softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """Gradient of the scores, computed in float32 or wider and returned in the weights' dtype."""
    wide = torch.promote_types(weights.dtype, torch.float32)
    found = torch.ops.aten._softmax_backward_data(grad.to(wide), weights.to(wide), 2, wide)
    return found.to(weights.dtype)
