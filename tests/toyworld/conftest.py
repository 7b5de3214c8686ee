from pathlib import Path

import pytest

from tests.toyworld.tiny_world import tiny_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A written toy world's root, to be read only."""
    return tiny_world(tmp_path_factory) / "data" / "toy"
