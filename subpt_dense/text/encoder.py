"""Learned contexts to unit rows: which encoder, and the proof that it may be used (N names, M context tokens, W width).

`reference` is right for every tower, `truncated` and `shared_prefix` compute the same for less where the tower and the
context allow it. Rows and contexts are float32 whatever the tower's precision, and autocast is switched off inside: the
precision is the one that `TextSpec` names.
"""

from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor

from subpt_dense.text.reference import encode_reference, encode_truncated
from subpt_dense.text.self_check import check_rows
from subpt_dense.text.shared_prefix import KeysValues, encode_prefix, encode_shared_prefix, why_not
from subpt_dense.text.tokens import PromptTokens
from subpt_dense.text.tower import TextTower

ENCODERS = ("auto", "reference", "truncated", "shared_prefix")


def choose_encoder(tower: TextTower, *, position: str = "end", class_specific: bool = False) -> tuple[str, str]:
    """The cheapest encoder that is exact, and why it is this one.

    Args:
        tower: The frozen tower.
        position: Of the names, as in :func:`subpt_dense.text.pack_names`.
        class_specific: Whether every name has a context of its own.
    """
    if tower.attn_mask is None:
        return "reference", "the tower is not causal, so that every token reaches the row"
    if not tower.cut_at_end:
        return "reference", f"the tower is read at its {tower.pool_type} token"
    if class_specific:
        return "truncated", "every class has a context of its own"
    if position != "end":
        return "truncated", f"names stand at the {position}"
    blocks = why_not(tower)
    if blocks is not None:
        return "truncated", blocks
    return "shared_prefix", "the tower is causal and all names follow one context"


def encode_context(
    tower: TextTower,
    context: Tensor,
    tokens: PromptTokens,
    *,
    encoder: str = "auto",
    max_tokens: int | None = None,
    prefix: Sequence[KeysValues] | None = None,
) -> Tensor:
    """Rows of names with a learned context (CoOp, arXiv 2109.01134, eq. 2).

    At first use with a vocabulary a few rows are compared with `reference`, and with a tower their gradient.

    Args:
        tower: The frozen tower, on the context's device.
        context: ``[M, W]``, or ``[N, M, W]`` with one for every name; any floating dtype. The gradient reaches it and
            nothing else.
        tokens: From :func:`subpt_dense.text.pack_names`, with the same M.
        encoder: ``"auto"`` takes what :func:`choose_encoder` says, ``"reference"``, ``"truncated"`` or
            ``"shared_prefix"`` insist.
        max_tokens: With `shared_prefix`, the packed tokens computed at a time, >= 1: bounds memory for any N at about
            half as much time again; the others ignore it.
        prefix: With `shared_prefix`, what :func:`prefix_of` gave for this context.

    Returns:
        Unit rows ``[N, D]`` float32 (float64 for a float64 tower).

    Raises:
        ValueError: If the context's shape or device is not the tower's and the tokens', ``encoder`` cannot serve here,
            or ``max_tokens`` is not positive.
        RuntimeError: If the encoder disagrees with `reference`.
    """
    _check_context(tower, context, tokens)
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"`max_tokens` of encode_context must be at least 1, or None. Got {max_tokens}.")
    chosen = resolve_encoder(tower, encoder, tokens.position, class_specific=context.ndim == 3)
    _tell(tower, chosen, tokens.position, context.ndim == 3)
    if not len(tokens):
        return torch.zeros(0, tower.embed_dim, device=tower.device, dtype=tower.wide_dtype)

    def encode(context: Tensor, tokens: PromptTokens) -> Tensor:
        if chosen == "shared_prefix":
            known = prefix if tokens is whole else None
            return encode_shared_prefix(tower, context, tokens, max_tokens, known)
        return {"reference": encode_reference, "truncated": encode_truncated}[chosen](tower, context, tokens)

    whole = tokens
    with torch.autocast(tower.device.type, enabled=False):
        context = context.to(tower.wide_dtype)
        rows = encode(context, tokens)
        if chosen != "reference":
            check_rows(tower, chosen, encode, context, tokens, rows)
    return rows


def prefix_of(
    tower: TextTower, context: Tensor, *, encoder: str = "auto", position: str = "end"
) -> tuple[KeysValues, ...] | None:
    """What :func:`encode_context` would compute of the context for any vocabulary, or ``None`` where that is nothing.

    Args:
        tower: The frozen tower, on the context's device.
        context: ``[M, W]``.
        encoder: As in :func:`encode_context`.
        position: Of the names, as in :func:`subpt_dense.text.pack_names`.
    """
    if resolve_encoder(tower, encoder, position) != "shared_prefix":
        return None
    with torch.autocast(tower.device.type, enabled=False):
        return encode_prefix(tower, context.to(tower.wide_dtype))


def _check_context(tower: TextTower, context: Tensor, tokens: PromptTokens) -> None:
    expected = (tokens.context_length, tower.width)
    if tuple(context.shape) not in (expected, (len(tokens), *expected)):
        raise ValueError(
            f"`context` of encode_context must be [M, W] = {list(expected)}, or [N, M, W] with N = {len(tokens)}. "
            f"Got {list(context.shape)}."
        )
    if context.device != tower.device:
        raise ValueError(f"`context` of encode_context must be on the tower's {tower.device}. Got {context.device}.")


def resolve_encoder(tower: TextTower, encoder: str, position: str = "end", *, class_specific: bool = False) -> str:
    """The encoder that :func:`encode_context` will use.

    Raises:
        ValueError: If ``encoder`` insists on one that would not be exact.
    """
    best, reason = choose_encoder(tower, position=position, class_specific=class_specific)
    exact = ENCODERS[1 : ENCODERS.index(best) + 1]  # each does what the next one does, and more
    if encoder not in ("auto", *exact):
        raise ValueError(
            f"`encoder` of encode_context must be 'auto' or one of {', '.join(map(repr, exact))} here: {reason}. "
            f"Got {encoder!r}."
        )
    return best if encoder == "auto" else encoder


def _tell(tower: TextTower, chosen: str, position: str, class_specific: bool) -> None:
    """One line in the log for each choice."""
    best, reason = choose_encoder(tower, position=position, class_specific=class_specific)
    if (chosen, reason) not in tower.told:
        tower.told.add((chosen, reason))
        why = reason if chosen == best else f"as asked, in place of {best}"
        print_log(f"text encoder of {tower.model} ({tower.dtype}, {tower.device}): {chosen}: {why}", "current")
