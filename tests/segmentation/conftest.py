"""Shared by the segmentation tests."""

import pytest

from tests.vision.image_clips import write_image_clip


@pytest.fixture(scope="session")
def dense_clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """``model`` and ``pretrained`` of a tiny CLIP with a vision transformer: D = 24, patches of 16 pixels."""
    return write_image_clip(tmp_path_factory.mktemp("dense_clip"), "transformer")
