"""Shared by the tests of the frozen image side."""

from pathlib import Path

import pytest

from subpt_dense.toyworld import MODEL_NAME, write_checkpoint
from tests.vision.image_clips import VISION, write_image_clip


@pytest.fixture(scope="session")
def image_clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """``model`` and ``pretrained`` of a CLIP by the kind of its image tower."""
    made = {kind: write_image_clip(tmp_path_factory.mktemp(kind), kind) for kind in VISION}
    toy: Path = write_checkpoint(0, tmp_path_factory.mktemp("toy"))
    return made | {"toy": {"model": MODEL_NAME, "pretrained": str(toy)}}
