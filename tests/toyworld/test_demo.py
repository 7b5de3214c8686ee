"""The demonstration, in miniature, and its summary."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from subpt_dense.datasets import get_split
from subpt_dense.prompts import load_rows
from subpt_dense.toyworld import demo
from subpt_dense.toyworld.demo import Demo, print_summary

CONFIGS = Path(__file__).parents[2] / "configs"


class Runs:
    """Stands in for training and testing: notes the configs, writes what a run leaves."""

    def __init__(self) -> None:
        self.trained: list[Config] = []
        self.tested: list[tuple[Config, Path, dict]] = []

    def train(self, cfg: Config) -> None:
        self.trained.append(cfg)
        scalars = Path(cfg.work_dir) / "20240101_000000" / "vis_data" / "scalars.json"
        scalars.parent.mkdir(parents=True)
        lines = [{"coco/base_ap50": 0.5, "coco/novel_ap50": 0.25, "step": step} for step in (100, 200)]
        scalars.write_text("\n".join(map(json.dumps, lines)))
        (Path(cfg.work_dir) / "last_checkpoint").write_text(f"{cfg.work_dir}/iter_300.pth\n")

    def test(self, cfg: Config, checkpoint: Path, **kwargs: Path) -> dict:
        self.tested.append((cfg, checkpoint, kwargs))
        ap50 = 2.0 if cfg.model.prompt.type == "subpt_dense.RowsPrompt" else 77.123
        return {"tables": [{"groups": {group: {"ap50": ap50} for group in ("base", "novel", "all")}}]}


@pytest.fixture
def runs(world, monkeypatch):
    """The working directory has a toy world, as it is."""
    runs = Runs()
    monkeypatch.chdir(world.parents[1])
    for name, value in {"build_world": lambda root: False, "train": runs.train, "test": runs.test}.items():
        monkeypatch.setattr(demo, name, value)
    return runs


def test_demo(runs, tmp_path, capsys):
    heads = ("template", "coop", "template_scratch")
    made = Demo(tmp_path, heads=heads, configs=CONFIGS, options={"train_cfg.max_iters": 7}, seed=3)
    summary = made.run()
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert (tmp_path / "curves.png").is_file()
    score = {"base_ap50": 77.12, "novel_ap50": 77.12, "all_ap50": 77.12}
    assert summary["heads"] == {head: score for head in heads} and summary["seed"] == 3
    assert summary["controls"] == {"shuffled_novel_ap50": 2.0, "random_novel_ap50": 2.0}
    assert {"data", "train", "test"} <= {*summary["seconds"]}

    assert [Path(cfg.work_dir) for cfg in runs.trained] == [tmp_path / head for head in heads]
    for cfg in runs.trained:
        assert cfg.randomness.seed == 3 and cfg.train_cfg.max_iters == 7
        assert cfg.model.language.text.pretrained == "data/toy/clip_seed0.pt"
    assert [cfg.model.backbone.pretrained for cfg in runs.trained] == ["data/toy/clip_seed0.pt"] * 2 + [None]

    print_summary(summary, tmp_path)
    shown = capsys.readouterr().out
    assert "template, novel rows shuffled" in shown and "coop" in shown


def test_controls_and_pictures(runs, tmp_path):
    Demo(tmp_path, heads=("template", "coop"), configs=CONFIGS, clip_seed=0).run()
    plain, controls, drawn = runs.tested[:2], runs.tested[2:8], runs.tested[8]
    assert [checkpoint.parent.name for _, checkpoint, _ in plain] == ["template", "coop"]
    split = get_split("data/toy/split.json")
    draws = [f"{kind}_{draw}" for kind in ("shuffled", "random") for draw in range(3)]
    for (cfg, checkpoint, kwargs), draw in zip(controls, draws, strict=True):
        assert checkpoint == tmp_path / "template" / "iter_300.pth"
        assert kwargs == {"out": tmp_path / "controls" / f"{draw}.json"} and cfg.default_hooks.identity.allow_other
        assert load_rows(cfg.model.prompt.file).names == split.all
    rows = [load_rows(cfg.model.prompt.file).rows[-17:] for cfg, _, _ in controls]
    assert not any(torch.equal(a, b) for i, a in enumerate(rows) for b in rows[:i])  # six different draws
    cfg, checkpoint, kwargs = drawn
    assert checkpoint == tmp_path / "coop" / "iter_300.pth" and cfg.test_dataloader.dataset.indices == 12
    assert kwargs == {"out": tmp_path / "drawn.json", "show_dir": tmp_path / "drawn"}


SUMMARY = {
    "heads": {"template": {"base_ap50": 78.06, "novel_ap50": 77.0, "all_ap50": 77.8}},
    "controls": {"shuffled_novel_ap50": 2.0, "random_novel_ap50": 0.0},
    "seconds": {"install": None, "data": 8.0, "train": 64.0},
    "seed": 0,
    "commit": "abc1234+",
}


def test_summary_without_an_install_time(capsys):
    print_summary(SUMMARY, "work_dirs/demo")
    shown = capsys.readouterr().out
    assert "78.1" in shown and "abc1234+" in shown and "data 8 s, train 64 s" in shown and "install" not in shown


def test_install_seconds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert demo._install_seconds() is None
    stamp = tmp_path / ".venv" / ".installed"
    stamp.parent.mkdir()
    stamp.write_text("123.5\n")
    assert demo._install_seconds() == 123.5
    stamp.write_text("")
    assert demo._install_seconds() is None
