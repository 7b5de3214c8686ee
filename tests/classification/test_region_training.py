"""Prompts learned on cached regions: the classifier's loss, and real runs of the shipped configs on a tiny cache."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner
from torch.nn.functional import cross_entropy

from subpt_dense.classification import PromptedClassifier
from subpt_dense.prompts import load_prompt
from tests.classification.region_world import BASE, NOVEL, relocated, write_world

CONFIGS = Path(__file__).parents[2] / "configs"
SOFT = {"type": "subpt_dense.SoftBackground"}
#: Only the last epoch is tested and saved.
SHORT = {"train_cfg.val_begin": 6, "default_hooks.checkpoint.interval": 6}
LABELS = torch.tensor([0, -1, 1, -1, 0])

Clip = tuple[str, str]
Run = Callable[..., Runner]


def build(clip: Clip, **options: Any) -> PromptedClassifier:
    torch.manual_seed(0)
    prompt = {"type": "subpt_dense.ContextPrompt", "length": 4, "init_std": 0.3, "vocabulary": BASE}
    return PromptedClassifier(prompt=prompt, language={"text": {"model": clip[0], "pretrained": clip[1]}}, **options)


def features(count: int = len(LABELS)) -> torch.Tensor:
    return torch.randn(count, 24, generator=torch.Generator().manual_seed(1))


def test_the_step_by_hand(tiny_clip: Clip) -> None:
    model, weight = build(tiny_clip, loss=SOFT).train(), torch.tensor([1.0, 2.0, 3.0, 0.5, 1.0])
    losses = model(features(), LABELS, mode="loss", weight=weight.double())
    log_p = model(features()).log_softmax(1)
    each = [-log_p[i, y] if y >= 0 else -log_p[i].mean() for i, y in enumerate(LABELS.tolist())]
    torch.testing.assert_close(losses["loss_ce"], (torch.stack(each) * weight).sum() / weight.sum())
    shown = LABELS >= 0
    assert losses["acc"] == 100 * (log_p.argmax(1) == LABELS)[shown].float().mean()
    losses["loss_ce"].backward()
    assert model.prompt.context.grad.abs().sum() > 0
    assert set(model.state_dict()) == {"prompt.context", "prompt.initial_context"}


def test_without_background_and_weights_it_is_cross_entropy(tiny_clip: Clip) -> None:
    label = torch.tensor([0, 1, 1, 0, 0])
    plain, soft = (build(tiny_clip, **options)(features(), label, mode="loss") for options in ({}, {"loss": SOFT}))
    assert plain["loss_ce"] == cross_entropy(build(tiny_clip)(features()), label)
    torch.testing.assert_close(plain["loss_ce"], soft["loss_ce"])
    assert plain["acc"] == soft["acc"]


def test_background_alone_has_no_accuracy(tiny_clip: Clip) -> None:
    losses = build(tiny_clip, loss=SOFT)(features(2), torch.tensor([-1, -1]), mode="loss")
    assert losses["acc"] == 0 and losses["loss_ce"] > 0


def test_a_loss_that_knows_neither_is_refused(tiny_clip: Clip) -> None:
    with pytest.raises(TypeError, match="weight"):
        build(tiny_clip)(features(), LABELS.clamp(min=0), mode="loss", weight=torch.ones(5))
    with pytest.raises(IndexError, match="Target -1 is out of bounds"):
        build(tiny_clip)(features(), LABELS, mode="loss")


def test_background_is_not_tested(tiny_clip: Clip) -> None:
    with pytest.raises(ValueError, match=r"must be >= 0 in testing: .* Set `background=None` of RegionSet"):
        build(tiny_clip, loss=SOFT)(features(), LABELS, mode="predict")


@pytest.fixture(scope="module")
def world(tiny_clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("regions")
    return root, write_world(root, tiny_clip, images=6)


@pytest.fixture
def run(world: tuple[Path, dict[str, Any]], tmp_path: Path) -> Run:
    """Trains ``cls_toy_regions_<head>.py`` on the tiny world."""

    def train(head: str, folder: str = "run", **options: Any) -> Runner:
        path = CONFIGS / f"cls_toy_regions_{head}.py"
        cfg = Config(
            Config.fromfile(path).to_dict(), filename=str(path), format_python_code=False
        )  # formatting is slow
        cfg.merge_from_dict(relocated(*world) | {"optim_wrapper.optimizer.lr": 0.2} | SHORT | options)
        cfg.work_dir, cfg.log_level, cfg.experiment_name = str(tmp_path / folder), "ERROR", f"{tmp_path.name}-{folder}"
        with mock.patch("mmengine.visualization.Visualizer._initialize_fig", return_value=[mock.MagicMock()] * 3):
            runner = Runner.from_cfg(cfg)
        runner.train()
        return runner

    return train


def test_coop_learns_what_the_regions_show(run: Run, tmp_path: Path) -> None:
    runner = run("coop")
    table = runner.val_loop.evaluator.metrics[0].table
    assert table.images == 18 and table.details == {"data_set": "zoo", "part": "regions, IoU [0.5, 1.1)"}
    assert {group: found["classes"] for group, found in table.groups.items()} == {
        "base": 2, "novel": 1, "all": 3, "harmonic": 3,
    }  # fmt: skip
    assert table.groups["base"]["accuracy"] == 100  # its regions lie in two directions
    assert len(runner.train_dataloader.dataset) == 6 * 2 * (1 + len((0.0, 2.0, 4.0, 6.0)) + len((10.0, 16.0)))
    file = load_prompt(tmp_path / "run" / "prompt.safetensors")
    assert file.names == BASE and file.parameters["context"].shape == (8, 32)
    assert file.facts["epoch"] == 6 and file.facts["protocol"].startswith("toy-ovd-48/17 annotated boxes")


def test_subpt_nfl_explores_rewinds_and_stays_in_its_subspace(run: Run, tmp_path: Path) -> None:
    runner = run("subpt_nfl")
    (hook,) = [hook for hook in runner.hooks if type(hook).__name__ == "SubspaceHook"]
    assert hook.phase == "project" and hook.subspace.rank == 10
    assert runner.train_loop.explored == 2 and runner.epoch == 8
    moved = runner.model.prompt.context.detach().cpu().double().flatten() - hook.start
    outside = hook.subspace.remove(moved)
    assert moved.norm() > 0.01 and outside.norm() <= 1e-5 * moved.norm()
    file = load_prompt(tmp_path / "run" / "prompt.safetensors")
    assert file.facts["subspace"]["rank"] == 10 and file.identity["anchors"][0]["num_names"] == 2
    assert file.anchors == ({"name": "nfl", "kind": "generic", "names": ["lynx", "wolf"]},)


def test_stopped_and_resumed_it_ends_the_same(run: Run, tmp_path: Path) -> None:
    keep = {"default_hooks.checkpoint": {"interval": 1, "max_keep_ckpts": -1}}
    whole = run("subpt", "whole", **keep).model.prompt.context.detach().clone()
    for name in ("explore_epoch_1", "train_epoch_7"):
        resumed = run("subpt", name, load_from=str(tmp_path / "whole" / f"{name}.pth"), resume=True)
        assert torch.equal(resumed.model.prompt.context, whole), name


def test_the_learning_rate_is_a_cosine_from_the_first_epoch_on() -> None:
    cfg = Config.fromfile(CONFIGS / "_base_" / "schedules" / "regions_6e.py")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    (scheduler,) = (
        PARAM_SCHEDULERS.build({"end": 6, **each}, default_args={"optimizer": optimizer})
        for each in cfg.param_scheduler
    )
    for epoch in range(cfg.train_cfg.max_epochs):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * (1 + math.cos(math.pi * epoch / 6)), rel=1e-9)
        optimizer.step()
        scheduler.step()
    assert epoch == 5


def test_novel_names_are_not_called_generic(run: Run) -> None:
    with pytest.raises(ValueError, match="generic TextAnchor 'nfl' must hold no evaluated name. Got owl"):
        run("nfl", **{"model.language.names.generic": list(NOVEL)})


def test_a_missing_cache_stops_the_run_before_a_step(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"region cache .*train_gone/? does not exist"):
        run("coop", **{"train_dataloader.dataset.data_prefix.truth": "train_gone/"})
    assert not list((tmp_path / "run").glob("*.pth"))
