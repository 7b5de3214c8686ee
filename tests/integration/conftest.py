"""A small toy world on disk, and runs of the shipped configs on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from subpt_dense.apis import load_config
from subpt_dense.toyworld.build import build_world

CONFIGS = Path(__file__).parents[2] / "configs"
#: Eight iterations: four explored, with a snapshot each, and four projected.
SHORT = {
    "train_cfg.max_iters": 8,
    "train_cfg.val_interval": 8,
    "train_dataloader.batch_size": 2,
    "default_hooks.logger.interval": 1,
    "default_hooks.checkpoint.interval": 4,
    "model.language.names.generic.limit": 5,
}
SHORT_SUBPT = {"custom_hooks.0.rank": 2, "custom_hooks.0.explore": 4, "custom_hooks.0.interval": 1}

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data/toy`` in it: 16 training and 6 validation scenes, one tiny CLIP."""
    folder = tmp_path_factory.mktemp("toy")
    build_world(folder / "data" / "toy", train=16, val=6, train_crops=0, val_crops=0, clip_seeds=(0,))
    return folder


@pytest.fixture
def toy_config(toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeConfig:
    """Makes a shipped toy config, shortened, that runs in the toy folder and writes under ``tmp_path``."""
    monkeypatch.chdir(toy_folder)

    def make(head: str, options: dict[str, Any] | None = None, work_dir: str = "run", **kwargs: Any) -> Config:
        short = SHORT | (SHORT_SUBPT if "subpt" in head else {})
        return load_config(
            CONFIGS / f"ovd_toy_{head}.py", options=short | (options or {}), work_dir=str(tmp_path / work_dir), **kwargs
        )

    return make
