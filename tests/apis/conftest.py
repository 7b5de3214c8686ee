from pathlib import Path

import pytest

from tests.toyworld.tiny_world import tiny_world


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``data/toy``, made the working directory: the shipped configs find their data there."""
    root = tiny_world(tmp_path_factory)
    monkeypatch.chdir(root)
    return root
