"""Learned contexts to unit rows: which encoder, and the proof that it may be used (N names, M context tokens, W width).

`reference` is right for every tower, `truncated` and `shared_prefix` compute the same for less where the tower and the
context allow it. Rows and contexts are float32 whatever the tower's precision, and autocast is switched off inside: the
precision is the one that `TextSpec` names.
"""

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from mmengine.logging import print_log
from torch import Tensor

from subpt_dense.text.reference import encode_reference, encode_truncated
from subpt_dense.text.self_check import check_rows
from subpt_dense.text.shared_prefix import Prefix, encode_prefix, encode_shared_prefix, why_not
from subpt_dense.text.tokens import PromptTokens
from subpt_dense.text.tower import TextTower

_ENCODERS: dict[str, Callable[..., Tensor]] = {
    "reference": encode_reference,
    "truncated": encode_truncated,
    "shared_prefix": encode_shared_prefix,
}
ENCODERS = ("auto", *_ENCODERS)
_WHY_NOT: WeakKeyDictionary[TextTower, str | None] = WeakKeyDictionary()
_TOLD: WeakKeyDictionary[TextTower, set[tuple[str, str]]] = WeakKeyDictionary()


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
    if tower not in _WHY_NOT:
        _WHY_NOT[tower] = why_not(tower)
    blocks = _WHY_NOT[tower]
    if blocks is not None:
        return "truncated", blocks
    return "shared_prefix", "the tower is causal and all names follow one context"


def resolve_encoder(
    tower: TextTower,
    encoder: str,
    position: str = "end",
    *,
    class_specific: bool = False,
    owner: str = "encode_context",
) -> tuple[str, str]:
    """The encoder that :func:`encode_context` will use, and why.

    Args:
        tower: The frozen tower.
        encoder: As in :func:`encode_context`.
        position: As in :func:`choose_encoder`.
        class_specific: As in :func:`choose_encoder`.
        owner: Who asks; named in the error.

    Raises:
        ValueError: If ``encoder`` insists on one that would not be exact.
    """
    best, reason = choose_encoder(tower, position=position, class_specific=class_specific)
    exact = ENCODERS[1 : ENCODERS.index(best) + 1]  # each does what the next one does, and more
    if encoder not in ("auto", *exact):
        raise ValueError(
            f"`encoder` of {owner} must be 'auto' or one of {', '.join(map(repr, exact))} here: {reason}. "
            f"Got {encoder!r}."
        )
    if encoder in ("auto", best):
        return best, reason
    return encoder, f"as asked, in place of {best}"


def check_max_tokens(max_tokens: int | None, owner: str) -> None:
    """Raise ValueError unless ``max_tokens`` is ``None`` or an integer >= 1."""
    if max_tokens is not None and not (type(max_tokens) is int and max_tokens >= 1):
        raise ValueError(f"`max_tokens` of {owner} must be an integer >= 1, or None. Got {max_tokens!r}.")


def encode_context(
    tower: TextTower,
    context: Tensor,
    tokens: PromptTokens,
    *,
    encoder: str = "auto",
    max_tokens: int | None = None,
    prefix: Prefix | None = None,
) -> Tensor:
    """Rows of names with a learned context (CoOp, arXiv 2109.01134, eq. 2).

    At first use with a vocabulary a few rows are compared with `reference`, and with a tower their gradient too.

    Args:
        tower: The frozen tower, on the context's device.
        context: ``[M, W]``, or ``[N, M, W]`` with one for every name; any floating dtype. The gradient reaches it and
            nothing else.
        tokens: From :func:`subpt_dense.text.pack_names` for this tower, with the same M.
        encoder: ``"auto"`` takes what :func:`choose_encoder` says, ``"reference"``, ``"truncated"`` or
            ``"shared_prefix"`` insist.
        max_tokens: Tokens computed at a time, >= 1: bounds memory for any N, at about half as much time again.
        prefix: From :func:`prefix_of` for this context; used by `shared_prefix`.

    Returns:
        Unit rows ``[N, D]`` float32 (float64 for a float64 tower).

    Raises:
        ValueError: If context, tokens, prefix and tower do not belong together, ``encoder`` cannot serve here, or
            ``max_tokens`` is not positive.
        RuntimeError: If the encoder disagrees with `reference`.
    """
    _check_inputs(tower, context, tokens)
    check_max_tokens(max_tokens, "encode_context")
    chosen, why = resolve_encoder(tower, encoder, tokens.position, class_specific=context.ndim == 3)
    _tell(tower, chosen, why)
    if not len(tokens):
        return torch.zeros(0, tower.embed_dim, device=tower.device, dtype=tower.wide_dtype)
    known = {} if prefix is None or chosen != "shared_prefix" else {"prefix": prefix}
    with torch.autocast(tower.device.type, enabled=False):
        context = context.to(tower.wide_dtype)
        if known and not torch.equal(known["prefix"].context, context):
            raise ValueError("`prefix` of encode_context must be that of its context. Got another context's.")
        rows = _ENCODERS[chosen](tower, context, tokens, max_tokens, **known)
        if chosen != "reference":
            path = f"{chosen}, max_tokens={max_tokens}" + ", known prefix" * bool(known)
            check_rows(tower, path, lambda c, t: _ENCODERS[chosen](tower, c, t, max_tokens), context, tokens, rows)
    return rows


def prefix_of(tower: TextTower, context: Tensor, *, encoder: str = "auto", position: str = "end") -> Prefix | None:
    """What :func:`encode_context` would compute of the context for any vocabulary, or ``None`` where that is nothing.

    Args:
        tower: The frozen tower, on the context's device.
        context: ``[M, W]``.
        encoder: As in :func:`encode_context`.
        position: Of the names, as in :func:`subpt_dense.text.pack_names`.
    """
    if resolve_encoder(tower, encoder, position)[0] != "shared_prefix":
        return None
    with torch.autocast(tower.device.type, enabled=False):
        return encode_prefix(tower, context.to(tower.wide_dtype))


def _check_inputs(tower: TextTower, context: Tensor, tokens: PromptTokens) -> None:
    longest = tokens.ids.shape[1]
    if tokens.width != tower.width or longest > tower.context_length or tokens.ids.device != tower.device:
        raise ValueError(
            f"`tokens` of encode_context must have been packed for a tower of width {tower.width} on {tower.device} "
            f"that reads {tower.context_length}. Got width {tokens.width}, {tokens.ids.device}, {longest} tokens."
        )
    expected = (tokens.context_length, tower.width)
    if tuple(context.shape) not in (expected, (len(tokens), *expected)):
        raise ValueError(
            f"`context` of encode_context must be [M, W] = {list(expected)}, or [N, M, W] with N = {len(tokens)}. "
            f"Got {list(context.shape)}."
        )
    if context.device != tower.device:
        raise ValueError(f"`context` of encode_context must be on the tower's {tower.device}. Got {context.device}.")


def _tell(tower: TextTower, chosen: str, why: str) -> None:
    """One line in the log for each choice."""
    told = _TOLD.setdefault(tower, set())
    if (chosen, why) not in told:
        told.add((chosen, why))
        print_log(f"text encoder of {tower.model} ({tower.dtype}, {tower.device}): {chosen}: {why}", "current")
