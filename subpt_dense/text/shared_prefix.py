"""The fast encoder: one prefix for all classes, packed suffixes, and little that never reaches a row.

Exact, and as many times cheaper than the usual way as it has fewer tokens, about: `[SOS] v1..vM` is computed once and
not N times, names that begin alike share their first tokens, suffixes end at their [EOT], the last layer computes
[EOT] rows only, and what the context cannot reach (the suffixes' queries, keys and values in the first layer) is
computed once per vocabulary.

Legend: N classes, E <= N distinct ends, P = 1 + M prefix tokens, T packed suffix tokens, W text width, H heads of d,
D embedding.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, scaled_dot_product_attention, silu
from torch.utils.checkpoint import checkpoint

from subpt_dense.text.cascade import cascade_attention, joint_attention
from subpt_dense.text.packed import SLOPE, PackedBlock, pack_block, pays
from subpt_dense.text.reference import add_positions, project
from subpt_dense.text.tiles import Tiles
from subpt_dense.text.tokens import PromptTokens
from subpt_dense.text.tower import TextTower


class KeysValues(NamedTuple):
    """What suffixes need of the prefix in one layer, ``[H, P, d]`` each."""

    keys: Tensor
    values: Tensor


class Prefix(NamedTuple):
    """`[SOS] v1..vM` encoded: all that any vocabulary needs of a context.

    Attributes:
        context: The context it belongs to, ``[M, W]``.
        layers: Of every layer.
    """

    context: Tensor
    layers: tuple[KeysValues, ...]


class _Constants(NamedTuple):
    """What no context reaches: the suffixes before the first layer ``[T, W]``, their q, k and v in it ``[T, 3 W]``."""

    hidden: Tensor
    qkv: Tensor


def why_not(tower: TextTower) -> str | None:
    """Why the tower's blocks cannot be computed in pieces, or ``None`` where they can."""
    for block in _blocks(tower):
        if type(block) is not ResidualAttentionBlock or not isinstance(block.attn, nn.MultiheadAttention):
            return f"its blocks are {type(block).__name__}"
        if block.attn.in_proj_weight is None or block.attn.in_proj_bias is None or not block.attn.batch_first:
            return "its attention has another layout"
        if [name for name, _ in block.mlp.named_children()] != ["c_fc", "gelu", "c_proj"]:
            return "its MLP has other layers"
    return None


def encode_prefix(tower: TextTower, context: Tensor) -> Prefix:
    """Keys and values of `[SOS] v1..vM` in every layer.

    Args:
        tower: A tower for which :func:`why_not` finds nothing, and ``cut_at_end``.
        context: ``[M, W]`` in ``tower.wide_dtype``; the graph is kept.
    """
    hidden, blocks, found = _embed_prefix(tower, context), _blocks(tower), []
    for block in blocks:
        qkv = _qkv(block, hidden)
        found.append(_keys_values(block, qkv))
        if block is not blocks[-1]:
            hidden = _finish(block, hidden, _attend_causally(block, qkv))
    return Prefix(context, tuple(found))


def encode_shared_prefix(
    tower: TextTower,
    context: Tensor,
    tokens: PromptTokens,
    max_tokens: int | None = None,
    prefix: Prefix | None = None,
) -> Tensor:
    """Rows of one context before every name.

    Args:
        tower: As for :func:`encode_prefix`.
        context: ``[M, W]`` in ``tower.wide_dtype``.
        tokens: From :func:`subpt_dense.text.pack_names`, position ``"end"``.
        max_tokens: At most so many suffix tokens at a time (or one tile, where that has more). In backward all but the
            last chunk are computed once more: the gradient is the same, memory stays that of one chunk, and a step
            costs up to half as much again.
        prefix: From :func:`encode_prefix` for this context, where it is already known.

    Returns:
        Unit rows ``[N, D]`` in ``tower.wide_dtype``.
    """
    tiles = tokens.tiles
    if max_tokens is not None and max_tokens < len(tiles.ids):
        layers = (prefix or encode_prefix(tower, context)).layers
        options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
        *parts, last = tiles.split(max_tokens)
        rows = [checkpoint(_encode_suffixes, tower, layers, part, **options) for part in parts]
        # Backward begins with the last chunk and frees it before it computes another again: it may keep its graph.
        return torch.cat([*rows, _encode_suffixes(tower, layers, last)])[tiles.rank]
    constants = _constants_of(tower, tokens)
    if prefix is not None:
        return _encode_suffixes(tower, prefix.layers, tiles, constants)[tiles.rank]
    return _encode_jointly(tower, context, tokens, constants)[tiles.rank]


def _encode_jointly(tower: TextTower, context: Tensor, tokens: PromptTokens, constants: _Constants) -> Tensor:
    """Rows of the ends ``[E, D]``; prefix and suffixes pass each layer as one matrix, which small batches need."""
    start, tiles = _embed_prefix(tower, context), tokens.tiles
    sizes = [len(start), len(tiles.ids)]
    hidden = torch.cat([start, constants.hidden])  # [P + T, W]
    *blocks, last = _blocks(tower)
    packs = _packs_of(tower, tokens, len(hidden)) if hidden.requires_grad else [None] * len(blocks)
    for i, (block, packed) in enumerate(zip(blocks, packs, strict=True)):
        qkv, constant = (_qkv(block, hidden, packed), None) if i else (_qkv(block, start), constants.qkv)
        mixed = joint_attention(qkv, constant, tiles.mask, len(start), block.attn.num_heads)
        hidden = _finish(block, hidden, mixed, packed)
    normed = last.ln_1(hidden)
    before, after = _project_in(last, normed, slice(tower.width, None)).split(sizes)  # keys and values
    shared = KeysValues(*_heads(last, before.clone()))
    return _read_ends(tower, hidden[sizes[0] :], normed[sizes[0] :], after, shared, tiles)


def _encode_suffixes(
    tower: TextTower, layers: Sequence[KeysValues], tiles: Tiles, constants: _Constants | None = None
) -> Tensor:
    """Rows of the ends ``[E, D]``, the prefix being known."""
    *blocks, last = _blocks(tower)
    hidden, first = constants or _compute_constants(tower, tiles)
    for i, block in enumerate(blocks):
        qkv = _qkv(block, hidden) if i else first
        hidden = _finish(block, hidden, cascade_attention(qkv, *layers[i], tiles.mask))
    normed = last.ln_1(hidden)
    return _read_ends(tower, hidden, normed, _project_in(last, normed, slice(tower.width, None)), layers[-1], tiles)


def _read_ends(
    tower: TextTower, hidden: Tensor, normed: Tensor, keys_values: Tensor, prefix: KeysValues, tiles: Tiles
) -> Tensor:
    """The last layer: of the suffixes' T rows only the E that are read have queries and pass the MLP."""
    block = _blocks(tower)[-1]
    query = _project_in(block, normed[tiles.ends], slice(tower.width))
    # Attention is cheap: the others take part with zeros, and their results are dropped.
    queries = torch.zeros_like(hidden).index_copy(0, tiles.ends, query)
    mixed = cascade_attention(torch.cat([queries, keys_values], dim=1), *prefix, tiles.mask)
    return project(tower, _finish(block, hidden[tiles.ends], mixed[tiles.ends]))


def _blocks(tower: TextTower) -> list[ResidualAttentionBlock]:
    return list(cast(nn.ModuleList, tower.transformer.resblocks))


def _embed_prefix(tower: TextTower, context: Tensor) -> Tensor:
    start = tower.token_embedding.weight[tower.tokenizer.sot_token_id].to(context.dtype)
    prefix = torch.cat([start[None], context])  # [P, W]
    return add_positions(tower, prefix, slice(len(prefix)))


_T = TypeVar("_T")
_Kept = WeakKeyDictionary[PromptTokens, tuple[tuple[object, ...], _T]]  # as long as a vocabulary, for one key

_CONSTANTS: _Kept[_Constants] = WeakKeyDictionary()
_PACKS: _Kept[Sequence[PackedBlock]] = WeakKeyDictionary()


def _keep(kept: _Kept[_T], tokens: PromptTokens, compute: Callable[[], _T], *key: object) -> _T:
    """Computed once per vocabulary, and again for another key."""
    known = kept.get(tokens)
    if known is None or known[0] != key:
        known = kept[tokens] = key, compute()
    return known[1]


def _constants_of(tower: TextTower, tokens: PromptTokens) -> _Constants:
    return _keep(_CONSTANTS, tokens, lambda: _compute_constants(tower, tokens.tiles), tower)


def _packs_of(tower: TextTower, tokens: PromptTokens, rows: int) -> Sequence[PackedBlock | None]:
    """Of all blocks but the last, whose rows are fewer."""
    blocks = _blocks(tower)[:-1]
    if not pays(tower, rows):
        return [None] * len(blocks)
    threads = torch.get_num_threads()  # MKL shares work among as many as there were when it packed
    return _keep(_PACKS, tokens, lambda: [pack_block(block, rows) for block in blocks], tower, threads)


def _compute_constants(tower: TextTower, tiles: Tiles) -> _Constants:
    with torch.inference_mode(False), torch.no_grad():
        hidden = add_positions(tower, tower.token_embedding(tiles.ids), tiles.positions)
        return _Constants(hidden, _qkv(_blocks(tower)[0], hidden))


def _project_in(block: ResidualAttentionBlock, normed: Tensor, part: slice) -> Tensor:
    return linear(normed, block.attn.in_proj_weight[part], block.attn.in_proj_bias[part])


def _qkv(block: ResidualAttentionBlock, hidden: Tensor, packed: PackedBlock | None = None) -> Tensor:
    """``[rows, 3 W]``."""
    normed = block.ln_1(hidden)
    return packed.qkv(normed) if packed else _project_in(block, normed, slice(None))


def _heads(block: ResidualAttentionBlock, packed: Tensor) -> tuple[Tensor, ...]:
    """``[rows, n W]`` as n tensors ``[H, rows, d]``."""
    attn = block.attn
    return packed.view(len(packed), -1, attn.num_heads, attn.head_dim).permute(1, 2, 0, 3).unbind(0)


def _keys_values(block: ResidualAttentionBlock, qkv: Tensor) -> KeysValues:
    return KeysValues(*_heads(block, qkv)[1:])


def _attend_causally(block: ResidualAttentionBlock, qkv: Tensor) -> Tensor:
    """The prefix to itself: ``[P, 3 W]`` to ``[P, W]``."""
    query, key, value = (part[None] for part in _heads(block, qkv))
    mixed = scaled_dot_product_attention(query, key, value, is_causal=True)  # [1, H, P, d]
    return mixed[0].transpose(0, 1).reshape(len(qkv), -1)


def _finish(block: ResidualAttentionBlock, hidden: Tensor, mixed: Tensor, packed: PackedBlock | None = None) -> Tensor:
    """A block from its mixed values on: ``[rows, W]``."""
    hidden = hidden + block.ls_1((packed.out if packed else block.attn.out_proj)(mixed))
    normed = block.ln_2(hidden)
    if packed:
        return hidden + block.ls_2(packed.mlp(normed))
    if isinstance(block.mlp.gelu, QuickGELU):
        return hidden + block.ls_2(_QuickMLP.apply(normed, block.mlp.c_fc, block.mlp.c_proj))
    return hidden + block.ls_2(block.mlp(normed))


class _QuickMLP(torch.autograd.Function):
    """``c_proj(QuickGELU(c_fc(x)))``: as a silu its slope goes into the matrix products, and cancels in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, c_fc: nn.Linear, c_proj: nn.Linear) -> Tensor:
        inner = torch.addmm(c_fc.bias, x, c_fc.weight.t(), beta=SLOPE, alpha=SLOPE)  # [rows, 4 W]
        ctx.save_for_backward(inner)
        ctx.layers = c_fc, c_proj
        return torch.addmm(c_proj.bias, silu(inner), c_proj.weight.t(), alpha=1 / SLOPE)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (inner,) = ctx.saved_tensors
        c_fc, c_proj = ctx.layers
        with torch.autocast(grad.device.type, enabled=False):  # as in forward, wherever backward is called
            return torch.ops.aten.silu_backward(grad @ c_proj.weight, inner) @ c_fc.weight, None, None
