"""The fast encoders against `reference`, at first use: one that disagrees is an error, never a silent fallback."""

from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from subpt_dense.text.reference import encode_reference
from subpt_dense.text.tokens import PromptTokens, pack_names
from subpt_dense.text.tower import TextTower

Encode = Callable[[Tensor, PromptTokens], Tensor]


class Tolerance(NamedTuple):
    """L2 distance of two unit rows, and of two gradients relative to the second, that needs no second look."""

    rows: float
    gradient: float


TOLERANCES = {
    torch.float64: Tolerance(1e-10, 1e-8),
    torch.float32: Tolerance(1e-4, 1e-3),
    torch.float16: Tolerance(2e-2, 1e-1),
    torch.bfloat16: Tolerance(1e-1, 3e-1),
}
#: Beyond them rounding may be the cause (sharp attention, TF32). An encoder is wrong if it is so many times further
#: from the same weights in float64 than `reference`.
WORSE = 4.0
#: Where `reference` itself is so far from float64 that it has no digit left, nothing can be said.
LOST = 0.25
_ROWS_DONE: WeakKeyDictionary[PromptTokens, set[tuple[TextTower, str]]] = WeakKeyDictionary()
_GRADIENTS_DONE: WeakKeyDictionary[TextTower, set[tuple[str, int]]] = WeakKeyDictionary()


def check_rows(
    tower: TextTower, path: str, encode: Encode, context: Tensor, tokens: PromptTokens, rows: Tensor
) -> None:
    """Compare rows with `reference`: once per vocabulary; in training, once per tower, their gradient too.

    Args:
        tower: The frozen tower.
        path: The encoder and how it was called: each way through the code is checked by itself.
        encode: The same way through the code, for other names.
        context: ``[M, W]`` or ``[N, M, W]`` in ``tower.wide_dtype``.
        tokens: The vocabulary.
        rows: What the encoder gave, ``[N, D]``.

    Raises:
        RuntimeError: If they differ by more than rounding in the tower's precision explains.
    """
    rows_done = _ROWS_DONE.setdefault(tokens, set())
    gradients_done = _GRADIENTS_DONE.setdefault(tower, set())
    learned = context.requires_grad and torch.is_grad_enabled() and tokens.context_length > 0
    new_rows, new_gradient = (tower, path) not in rows_done, learned and (path, context.ndim) not in gradients_done
    if not (new_rows or new_gradient):
        return
    context = context.detach()
    if not torch.isfinite(context).all():  # a diverged context is somebody else's to report
        return
    picked = _pick(tokens)
    few = pack_names(tower, [tokens.names[i] for i in picked], tokens.context_length, tokens.position)
    own = context.clone() if context.ndim == 2 else context[picked].clone()
    # Hooks of our own hide what is saved here from those of somebody's activation checkpointing, which counts.
    with torch.inference_mode(False), saved_tensors_hooks(lambda x: x, lambda x: x):
        if new_rows:
            _check(tower, path, "rows", rows.detach()[picked].clone(), _rows, own, few)
            rows_done.add((tower, path))
        if new_gradient:
            gradient = _gradient(encode, own, few)
            _check(tower, path, "gradient", gradient, _gradient, own, few)
            gradients_done.add((path, context.ndim))


def _pick(tokens: PromptTokens) -> list[int]:
    """A few classes: the shortest and the longest, the first and the last."""
    ends = tokens.end.tolist()
    by_length = sorted(range(len(ends)), key=ends.__getitem__)
    return sorted({by_length[0], by_length[-1], 0, len(ends) - 1})


def _rows(encode: Encode, context: Tensor, tokens: PromptTokens) -> Tensor:
    with torch.no_grad():
        return encode(context, tokens)


def _gradient(encode: Encode, context: Tensor, tokens: PromptTokens) -> Tensor:
    """Of a fixed linear functional of the rows, as one row."""
    leaf = context.clone().requires_grad_()
    with torch.enable_grad():
        rows = encode(leaf, tokens)
        weight = torch.linspace(-1, 1, rows.shape[1], device=rows.device, dtype=rows.dtype).sin()
        (gradient,) = torch.autograd.grad((rows @ weight).sum(), leaf)
    return gradient.flatten().unsqueeze(0)


def _check(
    tower: TextTower,
    path: str,
    what: str,
    found: Tensor,
    compute: Callable[[Encode, Tensor, PromptTokens], Tensor],
    context: Tensor,
    tokens: PromptTokens,
) -> None:
    """Raise unless ``found`` is what ``compute`` gives with `reference`, or at least as near to the truth."""
    wanted = compute(lambda c, t: encode_reference(tower, c, t), context, tokens)
    tolerance = getattr(TOLERANCES[tower.dtype], what)
    distance = _distance(found, wanted)
    if distance <= tolerance:
        return
    host = torch.device("cpu")  # where float64 is float64, and no TF32
    exact = tower.copy_to(host, torch.float64)
    there = pack_names(exact, tokens.names, tokens.context_length, tokens.position)
    truth = compute(lambda c, t: encode_reference(exact, c, t), context.to(host, torch.float64), there)
    ours, plain = _distance(found, truth), _distance(wanted, truth)
    if plain < LOST and not ours <= max(WORSE * plain, tolerance):
        raise RuntimeError(
            f"The {what} of the text encoder {path!r} must agree with 'reference' to {tolerance} in {tower.dtype}, or "
            f"be as near to float64. Got a distance of {distance:.1e} for {', '.join(map(repr, tokens.names))} of "
            f"{tower.model!r}, and of {ours:.1e} to float64, where 'reference' has {plain:.1e}. Say "
            "encoder='reference' to go on without it, and report this."
        )


def _distance(a: Tensor, b: Tensor) -> float:
    """The largest L2 distance of a row, relative to that of ``b``; NaN where there is one."""
    a, b = a.to("cpu", torch.float64), b.to("cpu", torch.float64)
    return float(((a - b).norm(dim=1) / b.norm(dim=1).clamp_min(torch.finfo(b.dtype).tiny)).max())
