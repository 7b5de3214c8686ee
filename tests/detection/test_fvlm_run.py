"""F-VLM on a real Runner and a tiny world: the shipped toy configs, shortened."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from subpt_dense.apis import load_config, train
from subpt_dense.apis import test as run_test
from subpt_dense.detection.frozen_trunk import _digest, get_trunk
from subpt_dense.heads import VLMFusion
from tests.detection.fvlm_model import CONFIGS
from tests.toyworld.tiny_world import tiny_world

SHORT = {
    "train_cfg.max_iters": 4,
    "train_cfg.val_interval": 4,
    "train_dataloader.batch_size": 2,
    "default_hooks.checkpoint.interval": 4,
    "default_hooks.logger.interval": 1,
    "model.language.names.generic.limit": 5,
}
SHORT_SUBPT = {"custom_hooks.0.rank": 1, "custom_hooks.0.explore": 2, "custom_hooks.0.interval": 1}


@pytest.fixture
def make(tmp_path_factory, tmp_path, monkeypatch):
    """A shipped toy config that runs on the tiny world and writes under ``tmp_path``."""
    monkeypatch.chdir(tiny_world(tmp_path_factory))

    def config(head: str, **options: Any) -> Config:
        short = SHORT | (SHORT_SUBPT if "subpt" in head else {})
        return load_config(
            CONFIGS / f"ovd_toy_fvlm_{head}.py", options=short | options, work_dir=str(tmp_path / "run"), pretty=False
        )

    return config


@pytest.fixture
def weights(monkeypatch) -> list[list[float]]:
    """The weight of every class, each time that scores are fused."""
    seen, forward = [], VLMFusion.forward

    def watched(self, *args):
        seen.append(self.weights(len(self.rows)).tolist())
        return forward(self, *args)

    monkeypatch.setattr(VLMFusion, "forward", watched)
    return seen


@pytest.mark.parametrize("head", ["template", "subpt_nfl"])
def test_trains_and_tests(head, make, weights, tmp_path: Path) -> None:
    runner = train(make(head))
    model = runner.model
    assert len(model.prompt.vocabulary) == 48  # the training names are back after the validation
    assert _digest(get_trunk(model.backbone.key, "cpu")._visual) == model.backbone.key.weights_hash
    if head != "template":
        assert model.prompt.displacement() > 1e-3
    split = runner.val_loop.dataloader.dataset.metainfo
    base = {*split["base_classes"]}
    expected = [0.35 if name in base else 0.65 for name in split["classes"]]
    # In the validation alone, one batch of it, with the base names that the hook has handed on.
    assert weights == [pytest.approx(expected)] and expected.count(0.35) == 48

    checkpoint = tmp_path / "run" / "iter_4.pth"
    content = torch.load(checkpoint, weights_only=True)
    assert [key for key in content["state_dict"] if key.startswith("backbone")] == ["backbone.weights_sha256"]

    result = run_test(make(head), checkpoint)
    (table,) = result["tables"]
    assert {name: group["classes"] for name, group in table["groups"].items()} == {"base": 48, "novel": 17, "all": 65}
