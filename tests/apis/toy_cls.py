"""A small crop world and the `cls_toy_*` configs on it, three epochs short: for tests of runs over seeds."""

from pathlib import Path
from typing import Any

from subpt_dense.toyworld.crop_world import build_crop_world
from subpt_dense.toyworld.relocated import relocated

CONFIGS = Path(__file__).parents[2] / "configs"
SHORT = {
    "train_cfg.max_epochs": 3,
    "default_hooks.checkpoint": None,
    "model.prompt.length": 2,
    "model.language.names.generic.limit": 4,
}


def make_world(root: Path) -> Path:
    """Crops of split 0: 3 training, 1 validation and 2 test pictures a class."""
    build_crop_world(root, train=3, val=1, test=2, clip_seeds=(0,))
    return root


def short_options(head: str, world: Path) -> dict[str, Any]:
    """Overrides for `cls_toy_<head>.py`."""
    options = {**relocated(CONFIGS / f"cls_toy_{head}.py", world, home="data/toy_cls"), **SHORT}
    if head == "template":
        options = {key: value for key, value in options.items() if not key.startswith(("train_cfg", "model.prompt."))}
    return options
