"""The smallest toy world, written once a process, for whoever needs files."""

from pathlib import Path

import pytest

from subpt_dense.toyworld.build import build_world

SIZES = {"train": 6, "val": 3, "train_crops": 1, "val_crops": 1, "clip_seeds": (0,)}
_WRITTEN: list[Path] = []


def tiny_world(factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data/toy`` in it: the configs run as they are once it is the working directory."""
    if not _WRITTEN:
        root = factory.mktemp("tiny_world")
        build_world(root / "data" / "toy", **SIZES)
        _WRITTEN.append(root)
    return _WRITTEN[0]
