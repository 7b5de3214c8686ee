"""Base and novel classes trust two branches differently: score fusion by group (N regions, K classes)."""

from collections.abc import Collection, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn


class TakesGroups(Protocol):
    """A module whose scores depend on which classes are base."""

    def set_groups(self, base: Tensor) -> None:
        """From now on ``base``, bool ``[K]``, says which of the K classes were labelled in training."""


def hand_out_groups(model: nn.Module, names: Sequence[str], base: Collection[str] | None) -> None:
    """Tell every module with a ``set_groups(base)`` which of the K names are base, by name.

    Args:
        model: The host model; it may be one of those modules itself.
        names: The vocabulary, in label order.
        base: The names that training has labels of. Those that are not in the vocabulary do not matter. ``None`` if
            nobody knows.

    Raises:
        ValueError: If ``base`` is ``None`` and a module asks for groups.
    """
    takers = [module for module in model.modules() if callable(getattr(type(module), "set_groups", None))]
    if takers and base is None:
        raise ValueError(
            f"`base_classes` must be in the metainfo of a data set for {type(takers[0]).__name__}, which scores base "
            "and novel classes differently. Got none: use `subpt_dense.OVCocoDataset`, or add the names to `metainfo`."
        )
    known = set(base or ())
    mask = torch.tensor([name in known for name in names], dtype=torch.bool)
    for module in takers:
        cast(TakesGroups, module).set_groups(mask)


def check_groups(base: Tensor, owner: str) -> Tensor:
    """``base`` itself, for an ``owner`` that keeps it.

    Raises:
        TypeError: If it is not a bool tensor.
        ValueError: If it is not of shape ``[K]``.
    """
    if not isinstance(base, Tensor) or base.dtype != torch.bool:
        got = base.dtype if isinstance(base, Tensor) else type(base).__name__
        raise TypeError(f"`base` of {owner} must be a bool tensor [K]. Got {got}.")
    if base.ndim != 1:
        raise ValueError(f"`base` of {owner} must have shape [K]. Got {list(base.shape)}.")
    return base


def fuse_scores(
    text: Tensor, image: Tensor, base: Tensor, *, base_weight: float = 1 / 3, novel_weight: float = 2 / 3
) -> Tensor:
    """``text^(1 - w) * image^w`` with w by group (ViLD, arXiv 2104.13921, section 3.4).

    The text branch knows the base classes, which it was trained on, and the image branch all classes alike. Scores are
    not normalised again: what the text branch gives to the background stays lost to the classes.

    Args:
        text: Probabilities ``[N, K]`` in 0..1 without the background's column; N may be 0.
        image: Probabilities ``[N, K]`` in 0..1.
        base: bool ``[K]``: which classes are base.
        base_weight: w of base classes, in 0..1.
        novel_weight: w of the others, in 0..1.

    Returns:
        ``[N, K]`` float32 in 0..1; a row's sum may exceed 1 where the weights differ.

    Raises:
        ValueError: If the shapes do not fit, or a weight is out of range.
    """
    for name, value in {"base_weight": base_weight, "novel_weight": novel_weight}.items():
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` of fuse_scores must be in [0, 1]. Got {value}.")
    if text.ndim != 2 or text.shape != image.shape or list(base.shape) != [text.shape[1]]:
        raise ValueError(
            "`text` and `image` of fuse_scores must have one shape [N, K], and `base` [K]. "
            f"Got {list(text.shape)}, {list(image.shape)} and {list(base.shape)}."
        )
    # Half precision would round a product of small probabilities to zero.
    with torch.autocast(text.device.type, enabled=False):
        weight = torch.where(base.to(text.device), base_weight, novel_weight).float()  # [K]
        return text.float() ** (1 - weight) * image.float() ** weight
