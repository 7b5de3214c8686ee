"""Rows that must fail: the control experiments behind every toy table."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from subpt_dense.prompts import PromptHead, save_rows

KINDS = ("shuffled", "random")


def write_control_rows(head: PromptHead, novel: int, kind: str, path: str | Path, seed: int = 0) -> Path:
    """A rows file like the head's own, with the novel rows made wrong.

    Args:
        head: Its vocabulary lists the base names, then the novel ones.
        novel: Number of novel names, at the end of the vocabulary.
        kind: ``shuffled``: every novel name gets another novel name's row. ``random``: a random unit vector.
        path: Rows file to write, ``.safetensors``.
        seed: Of the permutation or the vectors.

    Returns:
        ``path``.

    Raises:
        ValueError: If ``kind`` is another.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` of control rows must be one of {', '.join(KINDS)}. Got {kind!r}.")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        rows = head().clone().cpu()
    if kind == "shuffled":
        rows[-novel:] = rows[-novel:][_derangement(novel, generator)]
    else:
        rows[-novel:] = nn.functional.normalize(torch.randn(novel, rows.shape[1], generator=generator), dim=-1)
    facts: dict[str, Any] = head.identity()
    origin = {key: facts[key] for key in ("backbone", "weights", "weights_hash")}
    save_rows(path, rows, head.vocabulary, prompt=f"control: {kind}", **origin)
    return Path(path)


def _derangement(n: int, generator: torch.Generator) -> torch.Tensor:
    """A permutation that leaves nothing in its place."""
    while True:
        order = torch.randperm(n, generator=generator)
        if not (order == torch.arange(n)).any():
            return order
