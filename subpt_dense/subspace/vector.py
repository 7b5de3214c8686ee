"""Several tensors as one vector and back (P numbers in all), in the order given."""

from collections.abc import Iterable

import torch
from torch import Tensor


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """Concatenate tensors to one detached copy ``[P]``, in the promoted dtype of them all.

    Raises:
        ValueError: If there is no tensor.
    """
    parts = [tensor.detach().reshape(-1) for tensor in tensors]
    if not parts:
        raise ValueError("`tensors` must hold at least one tensor. Got none.")
    return torch.cat(parts)


@torch.no_grad()
def write_flat(vector: Tensor, tensors: Iterable[Tensor]) -> None:
    """Copy a vector ``[P]`` into the tensors in place: the inverse of :func:`flatten`, rounding to each one's dtype.

    Raises:
        ValueError: If the vector is not as long as the tensors together.
    """
    targets = list(tensors)
    total = sum(target.numel() for target in targets)
    if tuple(vector.shape) != (total,):
        raise ValueError(f"`vector` must have shape [{total}], as long as the tensors. Got {list(vector.shape)}.")
    for target, part in zip(targets, vector.split([target.numel() for target in targets]), strict=True):
        target.copy_(part.view(target.shape))
