"""Real runs of SAN and of the two-stage segmentor on pictures of squares: training, validation, checkpoint, testing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from subpt_dense.apis import load_config, train
from subpt_dense.apis import test as run_test
from tests.segmentation import san_model, two_stage_model
from tests.segmentation.scene_files import SEEN, UNSEEN, loaders, write_scenes
from tests.toyworld.tiny_world import tiny_world

PREPROCESSOR = {
    "type": "mmseg.SegDataPreProcessor",
    "mean": [120.0] * 3,
    "std": [60.0] * 3,
    "bgr_to_rgb": True,
    "size_divisor": 32,
}
ITERS = 4


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return san_model.write_vit_clip(tmp_path_factory.mktemp("vit_clip"))


def san_run(clip: dict[str, str]) -> Config:
    """mmseg's own config, but for the model's sizes and text encoder, the data, the length and AMP."""
    # Without yapf, which takes longer than the run; `fromfile` has no way to ask for that.
    config = Config(Config.fromfile(san_model.OWN)._cfg_dict, format_python_code=False)
    on = {"decode_head.ignore_unlabelled": True}
    config.model = san_model.san_config(clip, "ContextPrompt", **on)
    config.model.data_preprocessor.update(size_divisor=64, test_cfg={"size_divisor": 32})
    config.optim_wrapper.type = "OptimWrapper"  # AMP's refuses CPUs
    config.optim_wrapper.pop("loss_scale")
    config.default_hooks.checkpoint = {"type": "CheckpointHook", "by_epoch": False, "interval": ITERS}
    return config


def two_stage_run(clip: dict[str, str]) -> Config:
    model = two_stage_model.segmentor_config(clip, "ContextPrompt", ignore_unlabelled=True)
    model.data_preprocessor = PREPROCESSOR
    return Config(
        {
            "default_scope": "mmseg",
            "model": model,
            "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 1e-3}},
            "default_hooks": {"checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": ITERS}},
            "val_cfg": {},
            "test_cfg": {},
        },
        format_python_code=False,
    )


RUNS = {"san": san_run, "two_stage": two_stage_run}


def run_config(kind: str, clip: dict[str, str], root: Path, work_dir: Path) -> Config:
    config = RUNS[kind](clip)
    for key, value in loaders(root).items():  # in place of the config's own, not merged into them
        config[key] = ConfigDict(value)
    config.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": ITERS, "val_interval": ITERS}
    subspace = {"type": "subpt_dense.SubspaceHook", "rank": 1, "explore": 2, "interval": 1, "project": "update"}
    config.custom_hooks = [{"type": "subpt_dense.VocabularyHook"}, subspace]
    config.work_dir = str(work_dir)
    config.experiment_name = work_dir.name
    config.log_level = "WARNING"
    return config


def seen_counts(monkeypatch, model: Any) -> list[list[bool]]:
    """The groups that are handed out, each time."""
    told: list[list[bool]] = []
    head = type(model.decode_head)
    original = head.set_groups
    monkeypatch.setattr(head, "set_groups", lambda self, base: (told.append(base.tolist()), original(self, base))[1])
    return told


@pytest.mark.parametrize("kind", RUNS)
def test_trains_validates_and_tests(kind, clip, tmp_path, monkeypatch):
    write_scenes(tmp_path / "data")
    torch.manual_seed(0)
    runner = Runner.from_cfg(run_config(kind, clip, tmp_path / "data", tmp_path / "run"))
    groups = seen_counts(monkeypatch, runner.model)
    runner.train()
    model = runner.model
    assert model.prompt.vocabulary == SEEN and model.num_classes == 2  # the training names are back after validation
    assert model.prompt.displacement() > 0
    assert [True, True, False] in groups
    state = torch.load(tmp_path / "run" / f"iter_{ITERS}.pth", weights_only=True)["state_dict"]
    assert "prompt.context" in state

    config = run_config(kind, clip, tmp_path / "data", tmp_path / "test")
    config.load_from = str(tmp_path / "run" / f"iter_{ITERS}.pth")
    tester = Runner.from_cfg(config)
    scores = tester.test()
    assert tester.model.prompt.vocabulary == (*SEEN, *UNSEEN)
    assert torch.equal(tester.model.prompt.context, model.prompt.context)
    (metric,) = tester.test_evaluator.metrics
    assert {name: group["classes"] for name, group in metric.table.to_dict()["groups"].items()} == {
        "seen": 2,
        "unseen": 1,
        "all": 3,
    }
    assert 0 <= scores["pAcc"] <= 100


def test_the_shipped_toy_config_runs(tmp_path_factory, tmp_path, monkeypatch):
    """Two stages on the tiny CLIP with every hook of the runtime, shortened."""
    monkeypatch.chdir(tiny_world(tmp_path_factory))
    short = {
        "train_cfg.max_iters": 4,
        "train_cfg.val_interval": 4,
        "train_dataloader.batch_size": 2,
        "val_dataloader.batch_size": 2,
        "test_dataloader.batch_size": 2,
        "default_hooks.checkpoint.interval": 4,
        "model.language.names.generic.limit": 5,
        "custom_hooks.0.rank": 1,
        "custom_hooks.0.explore": 2,
        "custom_hooks.0.interval": 1,
    }

    def config() -> Config:
        path = san_model.CONFIGS / "zss_toy_twostage_subpt_nfl.py"
        return load_config(path, options=short, work_dir=str(tmp_path / "run"), pretty=False)

    runner = train(config())
    assert len(runner.model.prompt.vocabulary) == 48 and runner.model.prompt.displacement() > 0
    result = run_test(config(), tmp_path / "run" / "iter_4.pth")
    (table,) = result["tables"]
    assert {name: group["classes"] for name, group in table["groups"].items()} == {"seen": 48, "unseen": 17, "all": 65}
