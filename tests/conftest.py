"""For all tests: one torch thread a worker, no `gpu` test without a GPU, no Runner's leftovers in the next test."""

from collections.abc import Iterator

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope

import subpt_dense  # noqa: F401  (before any test imports mmdet: it stands in for mmcv's operators)
from tests.tiny_clip import write_tiny_clip

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


def restore_globals() -> Iterator[None]:
    """Every Runner sets mmengine's default scope and current message hub for the rest of the process: put them back."""
    managers = (DefaultScope, MessageHub)
    before = [manager._instance_dict.copy() for manager in managers]
    yield
    for manager, instances in zip(managers, before, strict=True):
        manager._instance_dict.clear()
        manager._instance_dict.update(instances)


restore_after_module = pytest.fixture(restore_globals, scope="module", autouse=True)
restore_after_test = pytest.fixture(restore_globals, autouse=True)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Name and weights file of a tiny random CLIP known to open_clip: `TextSpec(*tiny_clip)`."""
    return write_tiny_clip(tmp_path_factory.mktemp("tiny_clip"))
