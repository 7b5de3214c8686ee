"""A tiny CLIP's text tower, in float32 and in float64."""

import open_clip
import pytest
from open_clip import CLIP

from subpt_dense.text import TextSpec, TextTower, get_tower, load_tower
from tests.text.coop import double


@pytest.fixture(scope="module")
def spec(tiny_clip: tuple[str, str]) -> TextSpec:
    return TextSpec(*tiny_clip)


@pytest.fixture(scope="module")
def tower(spec: TextSpec) -> TextTower:
    return get_tower(load_tower(spec), "cpu")


@pytest.fixture(scope="module")
def clip(spec: TextSpec) -> CLIP:
    return open_clip.create_model(spec.model, pretrained=spec.pretrained).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def doubled(spec: TextSpec) -> tuple[CLIP, TextTower]:
    return double(spec)
