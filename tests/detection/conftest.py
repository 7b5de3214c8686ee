"""Imported before any test module here, so that the shims are in place when one imports mmdet."""

from pathlib import Path

import pytest

import subpt_dense  # noqa: F401


@pytest.fixture(scope="session")
def toy_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP as an open_clip checkpoint."""
    from subpt_dense.toyworld import write_checkpoint

    return write_checkpoint(0, tmp_path_factory.mktemp("toy_clip"))
