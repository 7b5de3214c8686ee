"""Every random number generator a run draws from, as plain tensors and numbers that a checkpoint may hold."""

import random
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch


def get_random_state() -> dict[str, Any]:
    """States of Python's, numpy's, torch's and every CUDA device's generator: lists, numbers and byte tensors."""
    version, numbers, following = random.getstate()
    kind, keys, position, has_gauss, cached = cast(tuple[str, Any, int, int, float], np.random.get_state(legacy=True))
    return {
        "python": [version, list(numbers), following],
        "numpy": [kind, keys.tolist(), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Inverse of :func:`get_random_state`.

    Raises:
        ValueError: If the state has another number of CUDA devices than this process.
    """
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if len(state["cuda"]) != devices:
        raise ValueError(
            f"A random state must have this process's number of CUDA devices, {devices}. Got {len(state['cuda'])}. "
            "Resume on the devices the run was started on."
        )
    version, numbers, following = state["python"]
    random.setstate((version, tuple(numbers), following))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if devices:
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
