"""The toy run as a fixture, each in a folder of its own."""

from functools import partial
from pathlib import Path

import pytest

from tests.hooks.toy_run import Train, train_toy


@pytest.fixture
def train(tmp_path: Path) -> Train:
    return partial(train_toy, tmp_path)
