"""Features computed once equal those computed in every step."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from subpt_dense.classification import CachedFeatures, get_image_tower
from subpt_dense.registry import DATASETS
from subpt_dense.text import TextSpec

Config = Callable[..., dict[str, Any]]


@pytest.fixture
def build(image_set: Config, tiny_clip: tuple[str, str], tmp_path: Path) -> Callable[..., CachedFeatures]:
    def make(**options: Any) -> CachedFeatures:
        image = {"model": tiny_clip[0], "pretrained": tiny_clip[1], **options}
        return CachedFeatures(image_set("test", "all"), image, cache_dir=str(tmp_path / "features"), batch_size=5)

    return make


def test_equal_the_towers(build: Any, image_set: Config, tiny_clip: tuple[str, str]) -> None:
    plain, cached = DATASETS.build(image_set("test", "all")), build()
    tower = get_image_tower(TextSpec(*tiny_clip))
    assert len(cached) == len(plain) == 18 and cached.metainfo["classes"] == ("cat", "dog", "owl")
    for i in (0, 7, 17):
        item, image = cached[i], plain[i]
        assert (item["label"], item["index"]) == (image["label"], i)
        torch.testing.assert_close(item["inputs"], tower.encode(image["inputs"][None])[0], atol=1e-6, rtol=0)


def test_are_found_again_and_only_for_the_same_images_and_weights(build: Any, pictures: Path, tmp_path: Path) -> None:
    first = build()[3]["inputs"]
    (file,) = (tmp_path / "features").glob("*.safetensors")
    written = file.stat().st_mtime_ns
    assert torch.equal(build()[3]["inputs"], first) and file.stat().st_mtime_ns == written
    build(precision="bf16")[3]
    assert len(list((tmp_path / "features").glob("*.safetensors"))) == 2
    picture = pictures / "test" / "cat" / "0.png"
    os.utime(picture, ns=(1, 1))
    build()[3]
    assert len(list((tmp_path / "features").iterdir())) == 3
