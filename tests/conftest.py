"""Shared by all tests: one torch thread per worker; tests that need a GPU are skipped where there is none."""

import pytest
import torch

from tests.tiny_clip import write_tiny_clip

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Name and weights file of a tiny random CLIP known to open_clip: `TextSpec(*tiny_clip)`."""
    return write_tiny_clip(tmp_path_factory.mktemp("tiny_clip"))
