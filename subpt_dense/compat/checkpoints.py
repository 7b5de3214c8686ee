"""What mmengine 0.10 writes into a checkpoint beside tensors, allow-listed for ``torch.load(weights_only=True)``."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

_SCALARS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
_STATISTICS = ("min", "max", "current", "mean")


def _get_statistic(owner: Any, name: str) -> Callable[..., Any]:
    """Stands in for ``getattr``, which a pickled ``HistoryBuffer`` uses to name its four statistics."""
    if owner is not HistoryBuffer or name not in _STATISTICS:
        raise pickle.UnpicklingError(
            f"A checkpoint may look up only {', '.join(_STATISTICS)} of HistoryBuffer. Got `{name}` of {owner!r}: "
            "mmengine did not write this file, or it was tampered with; do not load it."
        )
    return getattr(HistoryBuffer, name)


def allow_mmengine_checkpoints() -> None:
    """Register mmengine's ``HistoryBuffer`` and numpy's arrays and scalars as safe to load. Idempotent.

    Both of numpy's spellings are known: ``numpy._core`` (2.x) and ``numpy.core`` (1.x).
    """
    names: list[Any] = [HistoryBuffer, np.ndarray, np.dtype, *(type(np.dtype(scalar)) for scalar in _SCALARS)]
    names.append((_get_statistic, "builtins.getattr"))
    core = getattr(np, "_core", None) or np.core
    for module in ("numpy._core.multiarray", "numpy.core.multiarray"):
        names += [
            (core.multiarray._reconstruct, f"{module}._reconstruct"),
            (core.multiarray.scalar, f"{module}.scalar"),
        ]
    torch.serialization.add_safe_globals(names)
