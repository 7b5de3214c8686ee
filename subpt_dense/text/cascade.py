"""Attention of packed suffixes to one shared prefix and to themselves (H heads of d, P prefix tokens, T tokens).

One softmax over both parts makes it the attention of the whole prompt. The prefix enters as one matrix product for all
suffixes, so its keys and values are never copied N times; autograd would keep and copy more than this needs, hence the
derivative by hand. Prior art for sharing a prefix in training: PrefixGrouper (arXiv 2506.05433).

`packed` is queries, keys and values by heads, ``[3, H, rows, d]``.
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


def joint_attention(qkv: Tensor, constants: Tensor | None, mask: Tensor, prefix: int, heads: int) -> Tensor:
    """The prefix's causal attention to itself and :func:`cascade_attention` of the suffixes, in one go.

    Small batches spend their time on the operations between matrix products; here they are few.

    Args:
        qkv: Of the prefix and, behind it, the suffixes ``[P + T, 3 H d]``; of the prefix alone ``[P, 3 H d]`` where
            ``constants`` are given.
        constants: The suffixes' ``[T, 3 H d]``, without gradient.
        mask: As for :func:`cascade_attention`.
        prefix: P.
        heads: H.

    Returns:
        ``[P + T, H d]`` in the dtype of ``qkv``, differentiable once.
    """
    return _Joint.apply(qkv, constants, mask, prefix, heads)


def _pack(qkv: Tensor, heads: int) -> Tensor:
    """``[rows, 3 H d]`` to ``[3, H, rows, d]``, contiguous and wide."""
    wide = torch.promote_types(qkv.dtype, torch.float32)
    return qkv.view(len(qkv), 3, heads, -1).permute(1, 2, 0, 3).to(wide).contiguous()


def _attend(packed: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Suffixes to the prefix and themselves: mixed values ``[H, T, d]`` and attention weights ``[H, T, P + B]``."""
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
    return mixed, weights


def _attend_backward(
    grad: Tensor, packed: Tensor, keys: Tensor, values: Tensor, weights: Tensor, wanted: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients of ``packed`` (where ``wanted``), keys and values from that of the mixed values ``[H, T, d]``."""
    query, key, value = packed
    prefix, size = keys.shape[1], weights.shape[2] - keys.shape[1]
    tiled, square = (-1, size, keys.shape[2]), (-1, size, size)
    own = torch.bmm(grad.view(tiled), value.view(tiled).transpose(1, 2)).view(len(keys), -1, size)
    scores = torch.cat([torch.bmm(grad, values.transpose(1, 2)), own], dim=2)  # [H, T, P + B]
    scores = torch.ops.aten._softmax_backward_data(scores, weights, 2, weights.dtype)
    scores.mul_(keys.shape[2] ** -0.5)
    onto_prefix, onto_own = scores[:, :, :prefix], scores[:, :, prefix:].view(square)
    found = None
    if wanted:
        found = torch.empty_like(packed)
        torch.bmm(onto_prefix, keys, out=found[0]).view(tiled).baddbmm_(onto_own, key.view(tiled))
        torch.bmm(onto_own.transpose(1, 2), query.view(tiled), out=found[1].view(tiled))
        of_own = weights[:, :, prefix:].view(square)
        torch.bmm(of_own.transpose(1, 2), grad.view(tiled), out=found[2].view(tiled))
    of_prefix = weights[:, :, :prefix]
    return found, torch.bmm(onto_prefix.transpose(1, 2), query), torch.bmm(of_prefix.transpose(1, 2), grad)


class _Cascade(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, packed: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        packed = packed.contiguous()
        mixed, weights = _attend(packed, keys, values, mask)
        ctx.save_for_backward(packed, keys, values, weights)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        with torch.autocast(grad.device.type, enabled=False):  # as in forward, wherever backward is called
            packed, keys, values, weights = ctx.saved_tensors
            wanted = ctx.needs_input_grad[0]  # not in the first layer, where suffixes are constants
            return *_attend_backward(grad.contiguous(), packed, keys, values, weights, wanted), None


class _Joint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, constants: Tensor | None, mask: Tensor, prefix: int, heads: int) -> Tensor:
        before = _pack(qkv[:prefix], heads)
        after = _pack(qkv[prefix:] if constants is None else constants, heads)
        query, key, value = before
        future = query.new_full((prefix, prefix), float("-inf")).triu_(1)
        scores = torch.baddbmm(future, query, key.transpose(1, 2), alpha=query.shape[2] ** -0.5)
        causal = scores.softmax(dim=2)  # [H, P, P]
        mixed, weights = _attend(after, key, value, mask)
        ctx.save_for_backward(before, after, causal, weights)
        ctx.constant = constants is not None
        rows = prefix + after.shape[2]
        out = qkv.new_empty(rows, heads, query.shape[2])
        out[:prefix] = torch.bmm(causal, value).transpose(0, 1)
        out[prefix:] = mixed.transpose(0, 1)
        return out.view(rows, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grad.device.type, enabled=False):
            before, after, causal, weights = ctx.saved_tensors
            (_, heads, prefix, depth), (query, key, value) = before.shape, before
            by_head = grad.view(len(grad), heads, depth).transpose(0, 1).to(before.dtype)  # [H, P + T, d]
            own, rest = by_head[:, :prefix].contiguous(), by_head[:, prefix:].contiguous()
            found, of_keys, of_values = _attend_backward(rest, after, key, value, weights, not ctx.constant)
            scores = torch.bmm(own, value.transpose(1, 2))
            scores = torch.ops.aten._softmax_backward_data(scores, causal, 2, causal.dtype).mul_(depth**-0.5)
            rows = prefix if found is None else len(grad)
            out = grad.new_empty(rows, 3, heads, depth)
            by_part = out.permute(1, 2, 0, 3)  # [3, H, rows, d]
            by_part[0, :, :prefix] = torch.bmm(scores, key)
            by_part[1, :, :prefix] = of_keys.baddbmm_(scores.transpose(1, 2), query)
            by_part[2, :, :prefix] = of_values.baddbmm_(causal.transpose(1, 2), own)
            if found is not None:
                by_part[:, :, prefix:] = found
            return out.view(rows, -1), None, None, None, None
