"""Published class embeddings without metadata: read on the word of the caller (K classes, D embedding)."""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from subpt_dense.prompts.rows_file import ORIGIN, RowsFile, check_rows, existing
from subpt_dense.text import check_names


def load_foreign_rows(path: str | os.PathLike, names: Sequence[str] | str | os.PathLike, backbone: str) -> RowsFile:
    """Read rows whose names and origin only the caller knows.

    Args:
        path: ``.npy`` (never pickled), or ``.pt`` or ``.pth`` that holds one tensor and nothing else.
        names: The K class names in row order, or a ``.txt`` file with one a line.
        backbone: The model whose text tower made the rows.

    Returns:
        The rows as they are in the file, in float32.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the file holds something else, or K differs from the number of names.
    """
    path = existing(path)
    if isinstance(names, (str, os.PathLike)):
        lines = existing(names).read_text(encoding="utf-8").splitlines()
        names = [line.strip() for line in lines if line.strip()]
    names = check_names(names, owner=f"rows file {path}")
    if not backbone:
        raise ValueError(f"`backbone` of {path} must be stated: the file does not say which model made it.")
    rows = check_rows(_read(path), names, path, normalised=False)
    stated = dict.fromkeys(ORIGIN, "") | {"backbone": backbone, "weights": "not stated", "prompt": "not stated"}
    return RowsFile(rows, names, {**stated, "normalised": False})


def _read(path: Path) -> Tensor:
    if path.suffix not in (".npy", ".pt", ".pth"):
        raise ValueError(f"{path} must be a .npy, .pt or .pth file, or a rows file (.safetensors).")
    expected = f"{path} must hold one floating array [K, D]"
    try:
        if path.suffix == ".npy":
            value = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            value = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, ValueError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{expected} and no Python objects. It cannot be read: {error}") from error
    if not isinstance(value, Tensor) or not value.is_floating_point():
        got = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ValueError(f"{expected}. Got {got}.")
    return value.detach().float()
