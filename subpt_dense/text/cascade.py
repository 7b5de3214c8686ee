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
    """Mix values over prefix and own suffix, scores scaled by ``d**-0.5``; in float32 at least, whatever comes in.

    Args:
        qkv: The suffixes' queries, keys and values side by side, ``[T, 3 H d]``.
        keys: The prefix's, ``[H, P, d]``.
        values: The prefix's, ``[H, P, d]``.
        mask: Added within tiles, ``[T / B, B, B]`` (see :class:`subpt_dense.text.tiles.Tiles`).

    Returns:
        ``[T, H d]`` in the dtype of ``qkv``, differentiable once.
    """
    wide = torch.promote_types(qkv.dtype, torch.float32)
    heads, _, depth = keys.shape
    packed = qkv.view(-1, 3, heads, depth).permute(1, 2, 0, 3)  # [3, H, T, d]
    mixed = _Cascade.apply(packed.to(wide), keys.to(wide), values.to(wide), mask)  # [H, T, d]
    return mixed.transpose(0, 1).reshape(len(qkv), -1).to(qkv.dtype)


class _Cascade(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, packed: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        packed = packed.contiguous()
        query, key, value = packed
        heads, prefix, depth = keys.shape
        tiles, size, _ = mask.shape
        tiled = (heads * tiles, size, depth)
        own = torch.bmm(query.view(tiled), key.view(tiled).transpose(1, 2)).view(heads, tiles, size, size)
        own = own.add_(mask).view(heads, -1, size)  # [H, T, B]
        scores = torch.cat([torch.bmm(query, keys.transpose(1, 2)), own], dim=2)  # [H, T, P + B]
        weights = scores.mul_(depth**-0.5).softmax(dim=2)
        mixed = torch.bmm(weights[:, :, :prefix], values)  # [H, T, d]
        mixed.view(tiled).baddbmm_(weights[:, :, prefix:].view(-1, size, size), value.view(tiled))
        ctx.save_for_backward(packed, keys, values, weights)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        with torch.autocast(grad.device.type, enabled=False):  # as in forward, wherever backward is called
            packed, keys, values, weights = ctx.saved_tensors
            query, key, value = packed
            prefix, size = keys.shape[1], weights.shape[2] - keys.shape[1]
            tiled, square = (-1, size, keys.shape[2]), (-1, size, size)
            grad = grad.contiguous()  # [H, T, d]
            own = torch.bmm(grad.view(tiled), value.view(tiled).transpose(1, 2)).view(len(keys), -1, size)
            scores = torch.cat([torch.bmm(grad, values.transpose(1, 2)), own], dim=2)  # [H, T, P + B]
            scores = torch.ops.aten._softmax_backward_data(scores, weights, 2, weights.dtype)
            scores.mul_(keys.shape[2] ** -0.5)
            onto_prefix, onto_own = scores[:, :, :prefix], scores[:, :, prefix:].view(square)
            found = None
            if ctx.needs_input_grad[0]:  # not in the first layer, where suffixes are constants
                found = torch.empty_like(packed)
                torch.bmm(onto_prefix, keys, out=found[0]).view(tiled).baddbmm_(onto_own, key.view(tiled))
                torch.bmm(onto_own.transpose(1, 2), query.view(tiled), out=found[1].view(tiled))
                of_own = weights[:, :, prefix:].view(square)
                torch.bmm(of_own.transpose(1, 2), grad.view(tiled), out=found[2].view(tiled))
            of_prefix = weights[:, :, :prefix]
            return (
                found,
                torch.bmm(onto_prefix.transpose(1, 2), query),
                torch.bmm(of_prefix.transpose(1, 2), grad),
                None,
            )
