"""Pictures of squares with label maps on disk, and the data part of a run on them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SEEN, UNSEEN = ("red star", "blue ring"), ("green oval",)
SPLIT = {"name": "squares", "base": list(SEEN), "novel": list(UNSEEN)}
_COLOURS = ((200, 40, 40), (40, 40, 200), (40, 200, 40), (120, 120, 120))
SIDE = 64


def write_scenes(root: Path, images: int = 4) -> None:
    """``img/*.png`` and ``ann/*.png``: a square of each of the three classes on a ground of no class (3)."""
    rng = np.random.default_rng(0)
    for k in range(images):
        numbers = np.full((SIDE, SIDE), 3, dtype=np.uint8)
        for number in range(3):
            top, left = rng.integers(0, SIDE - 24, 2)
            numbers[top : top + 24, left : left + 24] = number
        pixels = np.array(_COLOURS, dtype=np.int64)[numbers] + rng.integers(-20, 20, (SIDE, SIDE, 3))
        for folder, array in (("img", pixels.clip(0, 255).astype(np.uint8)), ("ann", numbers)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / folder / f"{k:02d}.png")


def loaders(root: Path, batch_size: int = 2) -> dict[str, Any]:
    """Data loaders and evaluators of a run: seen classes in training, all of them in validation and testing."""
    data = {
        "type": "subpt_dense.ZSSegDataset",
        "split": SPLIT,
        "labels": [*SEEN, *UNSEEN, "ground"],
        "data_root": str(root),
        "data_prefix": {"img_path": "img", "seg_map_path": "ann"},
        "img_suffix": ".png",
        "pipeline": [
            {"type": "mmengine.LoadImageFromFile"},
            {"type": "subpt_dense.LoadLabels"},
            {"type": "mmseg.PackSegInputs"},
        ],
    }
    loader = {"num_workers": 0, "persistent_workers": False}
    train = {"sampler": {"type": "mmengine.InfiniteSampler", "shuffle": True}, "dataset": data}
    test = {"sampler": {"type": "mmengine.DefaultSampler", "shuffle": False}, "dataset": {**data, "test_mode": True}}
    evaluator = {"type": "subpt_dense.ZeroShotIoUMetric", "protocol": "squares"}
    return {
        "train_dataloader": {**loader, **train, "batch_size": batch_size},
        "val_dataloader": {**loader, **test, "batch_size": 1},
        "test_dataloader": {**loader, **test, "batch_size": 1},
        "val_evaluator": evaluator,
        "test_evaluator": evaluator,
    }
