"""The study on a tiny world: relocated configs, a short run with hypotheses, a resume, all cells pooled."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.utils import import_modules_from_strings
from rich.console import Console

from subpt_dense.registry import DATASETS
from subpt_dense.toyworld import crop_world, study, study_full
from subpt_dense.toyworld.relocated import relocated
from subpt_dense.toyworld.study import HEADS, SETTINGS, outcome_line, run_study
from subpt_dense.toyworld.study_full import full_table, pool, run_full_study
from tests.toyworld.test_hypotheses import head

CONFIGS = Path(__file__).parents[2] / "configs"
STUDIED = sorted(path.stem for path in CONFIGS.glob("cls_toy*.py") if path.stem.split("_")[1] in ("toy", "toyaug"))
STUDIED = [name for name in STUDIED if "_regions_" not in name]  # of the toy scenes


@pytest.mark.parametrize("name", STUDIED)
def test_relocated_moves_every_path(name: str, tmp_path: Path) -> None:
    config = CONFIGS / f"{name}.py"
    options = relocated(config, tmp_path / "world", 2, home="data/toy_cls")
    assert "data_help" not in options
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(options)
    text = str({key: value for key, value in cfg.to_dict().items() if key != "data_help"})
    assert "data/toy" not in text and "clip_seed0" not in text
    assert cfg.model.language.text.pretrained == str(tmp_path / "world" / "clip_seed2.pt")
    assert cfg.model.language.names.generic.exclude == cfg.val_dataloader.dataset.dataset.split
    if cfg.get("train_dataloader"):
        assert f"{tmp_path}/world" in str(cfg.train_dataloader)


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_head_has_a_config_and_the_settings_say_what_is_in_it(setting: str) -> None:
    name, words = SETTINGS[setting]
    for method in HEADS[1:]:
        cfg = Config.fromfile(CONFIGS / f"cls_{name}_{method}.py")
        train, batch = cfg.train_dataloader.dataset, cfg.train_dataloader.batch_size
        shots = train.get("shots") or train.dataset.shots
        said = [f"{shots} shots", f"batch {batch}", f"lr {cfg.optim_wrapper.optimizer.lr}"]
        said.append(f"{cfg.train_cfg.max_epochs} epochs")
        if "subpt" in method:
            (hook,) = cfg.custom_hooks
            said += [f"t_early {hook.explore}", f"rank {hook.rank}"]
            assert hook.rewind == "run" and "project" not in hook and "start_from" not in hook  # the defaults
        else:
            assert not cfg.get("custom_hooks")
        if "nfl" in method:
            (anchor,) = cfg.model.prompt.anchors
            said.append(f"NFL weight {anchor.weight:g}")
            assert anchor.names == ("heldout" if "heldout" in method else "generic")
            assert f"{cfg.model.language.names.generic.limit} generic names" in words
        else:
            assert "anchors" not in cfg.model.prompt
        assert not [one for one in said if one not in words], words
        assert cfg.param_scheduler[1].T_max == cfg.train_cfg.max_epochs
        assert cfg.param_scheduler[0].factor * cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-5)


def test_a_short_study_writes_everything_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Config, "pretty_text", property(lambda config: f"# {config.filename}\n"))  # slow
    monkeypatch.setattr(
        study, "build_crop_world", lambda root, **more: crop_world.build_crop_world(root, **more, **TINY)
    )
    options = {"train_cfg.max_epochs": 4, "model.prompt.length": 2}
    asked: dict[str, Any] = {"seeds": [1, 2], "heads": ["coop"], "jobs": 1, "options": options, "configs": CONFIGS}
    first = run_study("runs", **asked, console=Console(quiet=True))
    assert (tmp_path / "data" / "toy_cls" / "world.json").is_file()
    assert [one["name"] for one in first["hypotheses"]] == ["H1", "H2", "H3", "H4"]
    assert isinstance(first["hypotheses"][0]["holds"], bool) and first["hypotheses"][1]["holds"] is None
    assert first["setting"] == {
        "name": "fast", "is": SETTINGS["fast"][1], "domain": "tint", "split": 0, "clip_seed": 0,
    }  # fmt: skip
    assert json.loads(Path("runs/summary.json").read_text()) == first
    assert "- H1, CoOp's novel accuracy falls after epoch 3: **" in Path("runs/table.md").read_text()
    stamp = Path("runs/coop/seed1/result.json").stat().st_mtime_ns
    second = run_study("runs", **asked, console=Console(quiet=True))
    assert second["heads"] == first["heads"] and Path("runs/coop/seed1/result.json").stat().st_mtime_ns == stamp


TINY = {"train": 2, "val": 1, "test": 1, "clip_seeds": (0,)}


def test_another_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`setting` of run_study must be one of fast, paper\. Got 'slow'\."):
        run_study(tmp_path, seeds=[1], setting="slow", root=tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_outcome_line() -> None:
    outcome = study.Outcome("H9", "birds fly", None, "no birds")
    assert outcome_line(outcome) == "- H9, birds fly: **not decided**. no birds"
    assert "**does not hold**" in outcome_line(outcome._replace(holds=False))


def cell(shift: float, seeds: list[int], names: tuple[str, ...] = ("coop", "nfl")) -> dict[str, Any]:
    heads = {
        name: {**head([1.0] * 6, [1.0] * 6, h=60 + shift + 2 * i, seeds=seeds), "best": None}
        for i, name in enumerate(names)
    }
    return {"heads": heads, "failures": [], "run_seconds": 1.0, "commit": "abc", "seeds": seeds}


def test_pool_is_the_mean_over_cells_and_pairs_within_them() -> None:
    cells = {"a": cell(0, [1, 2, 3]), "b": cell(8, [1, 2, 3])}
    found = pool(cells)
    means = [np.mean(one["heads"]["nfl"]["h"]) for one in cells.values()]
    assert found["heads"]["nfl"]["h"] == pytest.approx([np.mean(means), np.std(means, ddof=1), 2])
    assert found["cells"]["b"]["coop"]["h"] == pytest.approx(np.mean(cells["b"]["heads"]["coop"]["h"]))
    change = found["over_coop"]["nfl"]["h"]
    assert (change["difference"], change["wins"], change["seeds"]) == (pytest.approx(2.0), 6, 6)
    assert "coop" not in found["over_coop"]
    h2 = found["hypotheses"][1]
    assert h2["name"] == "H2" and "(0 of 6)" in h2["figures"], "six runs, two cells of three seeds"
    assert f"- H2, {h2['claim']}: **does not hold**." in full_table(
        {"settings": {"fast": {"is": "quick", **found}}, "seeds": [1, 2, 3], "commit": "c"}
    )


def test_pool_without_coop_or_with_a_lost_seed() -> None:
    assert pool({"a": cell(0, [1, 2], ("nfl",))})["over_coop"] == {}
    one = cell(0, [1, 2, 3])
    one["heads"]["nfl"] = cell(0, [2, 3])["heads"]["nfl"]
    assert pool({"a": one})["over_coop"]["nfl"]["h"]["seeds"] == 2


def test_the_full_study_runs_every_cell_and_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def one(work_dir: Path, **arguments: Any) -> dict[str, Any]:
        asked.append((work_dir.relative_to(tmp_path).as_posix(), arguments["root"], arguments["setting"]))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return cell(len(asked), [1, 2])

    monkeypatch.setattr(study_full, "run_study", one)
    arguments: dict[str, Any] = {"seeds": [1, 2], "settings": ["fast"], "splits": (0, 1), "clip_seeds": (0, 2)}
    with pytest.raises(KeyboardInterrupt):
        run_full_study(tmp_path, **arguments, console=Console(quiet=True))
    assert asked == [
        ("fast/split0_clip0", "data/toy_cls", "fast"),
        ("fast/split0_clip2", "data/toy_cls", "fast"),
        ("fast/split1_clip0", "data/toy_cls_split1", "fast"),
    ]
    kept = json.loads((tmp_path / "summary.json").read_text())
    assert list(kept["settings"]["fast"]["cells"]) == ["split 0, clip 0", "split 0, clip 2"]
    table = (tmp_path / "table.md").read_text()
    assert table == full_table(kept) and "| split 0, clip 2 |" in table and "+2.0 ± 0.0 (4 of 4)" in table


def test_the_full_study_is_every_fast_cell_and_the_first_of_the_papers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def one(work_dir: Path, **arguments: Any) -> dict[str, Any]:
        asked.append((arguments["setting"], arguments["split"], arguments["clip_seed"]))
        return cell(len(asked), [1, 2])

    monkeypatch.setattr(study_full, "run_study", one)
    run_full_study(tmp_path, seeds=[1, 2], console=Console(quiet=True))
    assert asked == [*(("fast", split, clip) for split in range(3) for clip in range(3)), ("paper", 0, 0)]


@pytest.mark.parametrize(("name", "lr", "epochs"), [("cls_toy_coop", 0.03, 60), ("cls_toyaug_coop", 0.002, 100)])
def test_learning_rates_are_the_closed_form(name: str, lr: float, epochs: int) -> None:
    """Epoch 1 at 1e-5, then lr / 2 (1 + cos(pi (e - 2) / T)), as the official code's come out."""
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [PARAM_SCHEDULERS.build({**one, "optimizer": optimizer}) for one in cfg.param_scheduler]
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    expected = [1e-5, *(lr / 2 * (1 + math.cos(math.pi * (e - 2) / epochs)) for e in range(2, epochs + 1))]
    np.testing.assert_allclose(rates, expected, rtol=1e-9)


@pytest.mark.parametrize(("name", "shots"), [("cls_toy_coop", 2), ("cls_toyaug_coop", 4)])
def test_the_configs_read_the_crop_world(
    name: str, shots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    crop_world.build_crop_world("data/toy_cls", **{**TINY, "train": 5})
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    import_modules_from_strings(**cfg.custom_imports)
    train, test, val = (
        DATASETS.build(node)
        for node in (cfg.train_dataloader.dataset, cfg.test_dataloader.dataset, cfg.selection_dataset)
    )
    assert [len(train), len(test), len(val)] == [48 * shots, 65, 48]
    assert len(train.metainfo["classes"]) == 48 and len(test.metainfo["classes"]) == 65
    assert train.metainfo["classes"] == val.metainfo["classes"] == test.metainfo["base_classes"]
    item = train[0]
    assert item["inputs"].shape == ((64,) if name == "cls_toy_coop" else (3, 64, 64))
    images = train.dataset if name == "cls_toy_coop" else train
    assert images.get_data_info(0)["gt_label"] == item["label"]
    folder = Path(images.get_data_info(0)["img_path"]).parent
    assert folder.parts[-2:] == ("train", train.metainfo["classes"][item["label"]].replace(" ", "_"))
