"""The plain encoders: open_clip's own modules on whole prompts, full length or cut (N prompts, L tokens, W width)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from subpt_dense.text.tokens import PromptTokens
from subpt_dense.text.tower import TextTower


def encode_reference(tower: TextTower, context: Tensor, tokens: PromptTokens) -> Tensor:
    """Rows as CoOp computes them, every prompt at the tower's full length: right for every tower, the others' measure.

    Args:
        tower: The frozen tower.
        context: ``[M, W]``, or one for each name, ``[N, M, W]``, in ``tower.wide_dtype``.
        tokens: From :func:`subpt_dense.text.pack_names`.

    Returns:
        Unit rows ``[N, D]`` in ``tower.wide_dtype``.
    """
    return _encode(tower, context, tokens, tower.context_length)


def encode_truncated(tower: TextTower, context: Tensor, tokens: PromptTokens) -> Tensor:
    """The same, cut behind the longest prompt's [EOT]: right where ``tower.cut_at_end``."""
    return _encode(tower, context, tokens, tokens.ids.shape[1])


def _encode(tower: TextTower, context: Tensor, tokens: PromptTokens, length: int) -> Tensor:
    ids = pad(tokens.ids, (0, length - tokens.ids.shape[1])).to(tower.device)
    embedded = tower.token_embedding(ids).to(tower.wide_dtype)  # [N, length, W]
    slots = tokens.slots.to(tower.device)[:, :, None].expand(-1, -1, tower.width)
    prompts = embedded.scatter(1, slots, context.expand(len(tokens), -1, -1))
    return read_prompts(tower, prompts, tokens.end.to(tower.device))


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
