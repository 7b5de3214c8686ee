"""The plain encoders: open_clip's own modules on whole prompts, full length or cut (N prompts, L tokens, W width)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad
from torch.utils.checkpoint import checkpoint

from subpt_dense.text.tokens import PromptTokens
from subpt_dense.text.tower import TextTower


def encode_reference(tower: TextTower, context: Tensor, tokens: PromptTokens, max_tokens: int | None = None) -> Tensor:
    """Rows as CoOp computes them, every prompt at the tower's full length: right for every tower, the others' measure.

    Args:
        tower: The frozen tower.
        context: ``[M, W]``, or one for each name, ``[N, M, W]``, in ``tower.wide_dtype``.
        tokens: From :func:`subpt_dense.text.pack_names`.
        max_tokens: At most so many tokens at a time (or one prompt, where that has more), computed once more in
            backward.

    Returns:
        Unit rows ``[N, D]`` in ``tower.wide_dtype``.
    """
    return _encode(tower, context, tokens, tower.context_length, max_tokens)


def encode_truncated(tower: TextTower, context: Tensor, tokens: PromptTokens, max_tokens: int | None = None) -> Tensor:
    """The same, cut behind the longest prompt's [EOT]: right where ``tower.cut_at_end``."""
    return _encode(tower, context, tokens, tokens.ids.shape[1], max_tokens)


def _encode(tower: TextTower, context: Tensor, tokens: PromptTokens, length: int, max_tokens: int | None) -> Tensor:
    ids = pad(tokens.ids, (0, length - tokens.ids.shape[1]))
    contexts = context.expand(len(tokens), -1, -1)  # [N, M, W]
    if max_tokens is None or max_tokens >= ids.numel():
        return _read_ids(tower, contexts, ids, tokens.slots, tokens.end)
    parts = zip(
        *(part.split(max(1, max_tokens // length)) for part in (contexts, ids, tokens.slots, tokens.end)), strict=True
    )
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    return torch.cat([checkpoint(_read_ids, tower, *part, **options) for part in parts])


def _read_ids(tower: TextTower, contexts: Tensor, ids: Tensor, slots: Tensor, end: Tensor) -> Tensor:
    embedded = tower.token_embedding(ids).to(tower.wide_dtype)  # [N, length, W]
    prompts = embedded.scatter(1, slots[:, :, None].expand(-1, -1, tower.width), contexts)
    return read_prompts(tower, prompts, end)


def read_prompts(tower: TextTower, prompts: Tensor, end: Tensor) -> Tensor:
    """The tower on embedded prompts.

    Args:
        tower: The frozen tower.
        prompts: ``[N, L', W]``, L' <= L; L' = L unless ``tower.cut_at_end``.
        end: Position of each prompt's [EOT], ``[N]`` int64.

    Returns:
        Unit rows ``[N, D]`` in ``tower.wide_dtype``.
    """
    count, length, _ = prompts.shape
    mask = None if tower.attn_mask is None else tower.attn_mask[:length, :length]
    hidden = tower.transformer(add_positions(tower, prompts, slice(length)), attn_mask=mask)
    place = {"argmax": end, "first": torch.zeros_like(end), "last": torch.full_like(end, length - 1)}[tower.pool_type]
    return project(tower, hidden[torch.arange(count, device=tower.device), place])


def add_positions(tower: TextTower, embedded: Tensor, positions: Tensor | slice) -> Tensor:
    """Embedded tokens ``[..., W]`` with their positions added, in the dtype the transformer works in."""
    where = tower.positional_embedding[positions]
    return (embedded.to(tower.wide_dtype) + where.to(tower.wide_dtype)).to(tower.dtype)


def project(tower: TextTower, hidden: Tensor) -> Tensor:
    """What the transformer leaves at the token that is read ``[N, W]`` to unit rows ``[N, D]``, in ``wide_dtype``."""
    last = tower.ln_final(hidden.to(tower.wide_dtype))
    projection = tower.text_projection
    if isinstance(projection, nn.Linear):
        last = projection(last)
    elif projection is not None:
        last = last @ projection
    return normalize(last, dim=-1)
