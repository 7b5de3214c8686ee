"""A small folder of pictures in two base and one novel class, and the configs that read it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import subpt_dense.classification  # noqa: F401  (registers its types)

NAMES = {"base": ["cat", "dog"], "novel": ["owl"]}
SIZE = 32  # of the tiny CLIP's images


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train/<base class>/*.png`` and ``test/<class>/*.png``, 6 random pictures a class."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for part, names in (("train", NAMES["base"]), ("test", NAMES["base"] + NAMES["novel"])):
        for name in names:
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(6):
                Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture
def image_set(pictures: Path) -> Callable[..., dict[str, Any]]:
    """Config of the data set of a part and group."""

    def config(part: str = "train", group: str = "base", **options: Any) -> dict[str, Any]:
        pipeline = [{"type": f"subpt_dense.{step}"} for step in ("LoadImageRGB", "CLIPCrop", "PackImage")]
        pipeline[1]["size"] = SIZE  # type: ignore[assignment]
        folders = {"train": "train", "test": "test"}
        split = {"name": "pictures", **NAMES}
        return {
            "type": "subpt_dense.ImageSet",
            "set": "folder",
            "data_root": str(pictures),
            "folders": folders,
            "split": split,
            "part": part,
            "group": group,
            "pipeline": pipeline,
            **options,
        }

    return config
