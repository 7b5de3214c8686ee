"""The fast encoders against `reference`, at first use: one that disagrees is an error, never a silent fallback."""

from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from subpt_dense.text.reference import encode_reference
from subpt_dense.text.tokens import PromptTokens, pack_names
from subpt_dense.text.tower import TextTower

Encode = Callable[[Tensor, PromptTokens], Tensor]


class Tolerance(NamedTuple):
    """Largest L2 distance of two unit rows, and of two gradients relative to the second."""

    row: float
    gradient: float


TOLERANCES = {
    torch.float64: Tolerance(1e-10, 1e-8),
    torch.float32: Tolerance(1e-4, 1e-3),
    torch.float16: Tolerance(2e-2, 1e-1),
    torch.bfloat16: Tolerance(1e-1, 5e-1),
}
_CLASSES = 4
_CHECKED: WeakKeyDictionary[PromptTokens, set[tuple[TextTower, str]]] = WeakKeyDictionary()


@torch.inference_mode(False)
def check_rows(
    tower: TextTower, encoder: str, encode: Encode, context: Tensor, tokens: PromptTokens, rows: Tensor
) -> None:
    """Compare rows with `reference`: once per vocabulary, and once per tower their gradient too.

    Args:
        tower: The frozen tower.
        encoder: Name of the encoder, for the message.
        encode: What made ``rows``.
        context: ``[M, W]`` or ``[N, M, W]``.
        tokens: The vocabulary.
        rows: ``[N, D]``, the encoder's.

    Raises:
        RuntimeError: If they differ by more than rounding in the tower's precision explains.
    """
    done = _CHECKED.setdefault(tokens, set())
    key = (tower, encoder)
    if key in done or not torch.isfinite(context).all():  # a diverged context is somebody else's to report
        return
    picked = _pick(tokens)
    few = pack_names(tower, [tokens.names[i] for i in picked], tokens.context_length, tokens.position)
    shared = context.ndim == 2
    context = context.detach().clone()
    own = context if shared else context[picked]
    tolerance = TOLERANCES[tower.dtype]
    with torch.no_grad():
        distances = (rows.detach()[picked] - encode_reference(tower, own, few)).norm(dim=1)
    if not distances.max() <= tolerance.row:
        worst = int(distances.argmax())
        raise RuntimeError(
            f"The text encoder {encoder!r} must agree with 'reference' to {tolerance.row} in {tower.dtype}. Got a "
            f"distance of {distances[worst]:.2e} for {few.names[worst]!r} of {tower.model!r}. Say encoder='reference' "
            "to go on without it, and report this."
        )
    if len(own) and (encoder, own.shape) not in tower.told:
        _check_gradient(tower, encoder, encode, own, few, tolerance.gradient)
        tower.told.add((encoder, own.shape))
    done.add(key)


def _pick(tokens: PromptTokens) -> list[int]:
    """A few classes: the shortest and the longest, the first and the last."""
    ends = tokens.end.tolist()
    by_length = sorted(range(len(ends)), key=ends.__getitem__)
    return sorted({by_length[0], by_length[-1], 0, len(ends) - 1})[:_CLASSES]


def _check_gradient(
    tower: TextTower, encoder: str, encode: Encode, context: Tensor, tokens: PromptTokens, tolerance: float
) -> None:
    weight = torch.linspace(-1, 1, tower.embed_dim, device=tower.device, dtype=tower.wide_dtype).sin()
    found = []
    for compute in (encode, lambda *args: encode_reference(tower, *args)):
        leaf = context.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad((compute(leaf, tokens) @ weight).sum(), leaf)
        found.append(gradient)
    distance = (found[0] - found[1]).norm() / found[1].norm().clamp_min(torch.finfo(tower.wide_dtype).tiny)
    if not distance <= tolerance:
        raise RuntimeError(
            f"The gradient of the text encoder {encoder!r} must agree with 'reference' to {tolerance} in "
            f"{tower.dtype}. Got a relative distance of {distance:.2e} for {tower.model!r}. Say encoder='reference' to "
            "go on without it, and report this."
        )
