"""The rows file: class rows with everything needed to refuse the wrong ones (K classes, D embedding)."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from subpt_dense.prompts.sealed import read_sealed, write_sealed
from subpt_dense.text import check_names

FORMAT = "subpt_dense.rows"
VERSION = "1"
ORIGIN = ("backbone", "weights", "weights_hash", "prompt")


@dataclass(frozen=True)
class RowsFile:
    """Class rows with their origin.

    Attributes:
        rows: ``[K, D]`` float32 on the CPU; unit rows where the file says so.
        names: The K class names, in row order.
        metadata: ``backbone`` (open_clip model), ``weights`` (tag or file name), ``weights_hash`` (SHA-256 of the text
            weights, or empty), ``prompt`` (in words) and ``normalised``.
    """

    rows: Tensor
    names: tuple[str, ...]
    metadata: dict[str, Any]

    def unit_rows(self) -> Tensor:
        """The rows ``[K, D]``, normalised whatever the file says."""
        return normalize(self.rows, dim=1)


def save_rows(
    path: str | os.PathLike,
    rows: Tensor,
    names: Sequence[str],
    *,
    backbone: str,
    weights: str,
    prompt: str,
    weights_hash: str = "",
    normalised: bool = True,
) -> None:
    """Write a rows file: safetensors, with metadata and a checksum over both; all of it or nothing.

    Args:
        path: Ends in ``.safetensors``.
        rows: ``[K, D]``, finite, unit rows if ``normalised``; written as float32.
        names: The K class names, in row order.
        backbone: The open_clip model.
        weights: Its weights tag, or the name of the weights file.
        prompt: What made the rows, in words.
        weights_hash: SHA-256 of the text weights.
        normalised: Whether the rows are unit rows.

    Raises:
        ValueError: If rows and names do not fit each other, a row is not what it is said to be, or a text is empty.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"`path` of a rows file must end in .safetensors. Got {str(path)!r}.")
    names = check_names(names, owner=f"rows file {path}")
    rows = check_rows(rows.detach().float().cpu(), names, path, normalised)
    metadata = {"backbone": backbone, "weights": weights, "weights_hash": weights_hash, "prompt": prompt}
    for key in ("backbone", "weights", "prompt"):
        if not metadata[key].strip():
            raise ValueError(f"`{key}` of rows file {path} must not be empty: the rows' origin could not be checked.")
    metadata |= {"normalised": json.dumps(normalised), "names": json.dumps(names, ensure_ascii=False)}
    write_sealed(path, {"rows": rows}, metadata, kind=FORMAT, version=VERSION)


def load_rows(path: str | os.PathLike) -> RowsFile:
    """Read a rows file of :func:`save_rows`.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is no rows file, is damaged, or has another format version.
    """
    path = existing(path)
    hint = "Rows of another origin load from .npy or .pt, with `names` and `backbone` given."
    tensors, metadata = read_sealed(path, kind=FORMAT, version=VERSION, hint=hint)
    if set(tensors) != {"rows"}:
        raise ValueError(f"{path} must hold one tensor, 'rows'. Got {sorted(tensors)}. Write it again.")
    names = check_names(json.loads(metadata["names"]), owner=f"rows file {path}")
    normalised = json.loads(metadata["normalised"])
    rows = check_rows(tensors["rows"], names, path, normalised)
    return RowsFile(rows, names, {key: metadata[key] for key in ORIGIN} | {"normalised": normalised})


def check_rows(rows: Tensor, names: Sequence[str], path: Path, normalised: bool) -> Tensor:
    """The rows, contiguous, or an error: ``[K, D]``, finite, no zero row, unit rows where ``normalised``."""
    if rows.ndim != 2 or rows.shape[0] != len(names) or rows.shape[1] == 0:
        hint = " It seems to be transposed." if rows.ndim == 2 and rows.shape[1] == len(names) else ""
        expected = f"[{len(names)}, D], one row a name"
        raise ValueError(f"The rows of {path} must have shape {expected}. Got {list(rows.shape)}.{hint}")
    lengths = rows.norm(dim=1)
    bad = ~torch.isfinite(lengths) | (lengths == 0)
    if normalised:
        bad |= (lengths - 1).abs() > 1e-3
    if bad.any():
        wrong = ", ".join(f"{names[i]!r} has length {lengths[i]:.4g}" for i in bad.nonzero().flatten()[:5].tolist())
        expected = "unit rows" if normalised else "finite and not zero"
        raise ValueError(f"The rows of {path} must be {expected}. Got: {wrong}.")
    return rows.contiguous()


def existing(path: str | os.PathLike) -> Path:
    """The path of a file that exists, or an error."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"The rows file or list of names {str(path)!r} does not exist.")
    return Path(path)
