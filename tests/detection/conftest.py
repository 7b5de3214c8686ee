"""Shared by the detection tests."""

from pathlib import Path

import pytest

from subpt_dense.toyworld import write_checkpoint


@pytest.fixture(scope="session")
def toy_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP as an open_clip checkpoint."""
    return write_checkpoint(0, tmp_path_factory.mktemp("toy_clip"))
