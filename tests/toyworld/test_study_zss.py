"""The segmentation study on a tiny world: every step for real, a second call that does nothing, and its table."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from rich.console import Console

from subpt_dense.toyworld import dense_run, study_zss
from subpt_dense.toyworld.dense_run import DenseRun
from subpt_dense.toyworld.relocated import relocated
from subpt_dense.toyworld.study_zss import HEADS, run_zss_study
from subpt_dense.toyworld.study_zss_table import MODE, SCORES, read_scores, study_table, summarise

CONFIGS = Path(__file__).parents[2] / "configs"
SHORT = {"train_cfg.max_iters": 2, "train_dataloader.batch_size": 2, "param_scheduler": None}


@pytest.mark.parametrize("head", HEADS)
def test_a_relocated_segmentor_reads_nothing_of_the_first_world(head: str, tmp_path: Path) -> None:
    config = CONFIGS / f"zss_toy_{head}.py"
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(relocated(config, tmp_path / "world", home="data/toy"))
    parts = {key: value for key, value in cfg.to_dict().items() if key != "data_help"}
    assert "data/toy" not in str(parts) and str(tmp_path / "world") in str(cfg.test_dataloader)


def test_heads_of_a_seed_share_its_images_and_seeds_do_not() -> None:
    def run(head: str, seed: int) -> DenseRun:
        return study_zss._run(head, seed, Path("w"), Path("data/toy_zss"), CONFIGS, 16, -300, {})

    key = "train_dataloader.dataset.dataset.indices"
    drawn = {(head, seed): run(head, seed).options[key] for head in HEADS[1:] for seed in (1, 2)}
    assert all(len(set(images)) == 16 and max(images) < 200 for images in drawn.values())
    assert {str(drawn[head, 1]) for head in HEADS[1:]} == {str(drawn["coop", 1])} != {str(drawn["coop", 2])}
    assert key not in run("template", 1).options and run("template", 1).controlled == (MODE,)
    with pytest.raises(ValueError, match=r"`images` of run_zss_study must be in \[1, 200\]\. Got 201\."):
        run_zss_study("w", images=201)


@pytest.mark.slow
def test_the_study_for_real_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, count in (("_POOL", 4), ("_CHOICES", 2), ("_REPORTED", 2)):
        monkeypatch.setattr(study_zss, name, count)
    console = Console(file=io.StringIO(), width=300)
    asked: dict[str, Any] = {"seeds": [1], "heads": ("template", "coop"), "images": 3, "jobs": 1, "options": SHORT}
    found = run_zss_study(tmp_path / "study", configs=CONFIGS, console=console, **asked)
    assert not found["failures"], found["failures"]
    assert list(found["heads"]) == ["template", "coop"] and list(found["controls"]) == ["template"]
    assert (tmp_path / "study" / "scores.png").read_bytes().startswith(b"\x89PNG")
    (table,) = json.loads((tmp_path / f"study/coop/seed1/{MODE}.json").read_text())["tables"]
    assert table["images"] == 2 and read_scores([table])["h"] == found["heads"]["coop"]["h"][0]

    monkeypatch.setattr(dense_run, "train", lambda cfg: pytest.fail("trained again"))
    monkeypatch.setattr(dense_run, "test", lambda *a, **k: pytest.fail("tested again"))
    again = run_zss_study(tmp_path / "study", configs=CONFIGS, console=console, **asked)
    assert again["heads"] == found["heads"] and again["run_seconds"] == found["run_seconds"]
    assert found["seconds"] >= found["run_seconds"] and again["seconds"] is None
    assert (found["setting"]["world"], again["setting"]["world"]) == ("made", "found")


@pytest.mark.parametrize("begun", [False, True])
def test_the_wall_time_is_that_of_a_whole_study_only(
    begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_zss, "build_world", lambda *a, **k: True)
    monkeypatch.setattr(
        study_zss, "do_all", lambda runs, *a, **k: [(run, outcome(run.head, run.seed, 20.0)[1]) for run in runs]
    )
    monkeypatch.setattr(study_zss, "plot_dots", lambda *a, **k: None)
    if begun:
        (tmp_path / "coop" / "seed2").mkdir(parents=True)
    run_zss_study(tmp_path, seeds=(1, 2), heads=("template", "coop"), root="data/toy_zss", configs=CONFIGS)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["run_seconds"] == 8.0
    assert summary["seconds"] is None if begun else 0 <= summary["seconds"] < 60


def outcome(head: str, seed: int, hiou: float) -> tuple[DenseRun, dict[str, Any]]:
    scores = {"pacc": 40.0, "base": 30.0, "novel": 20.0, "h": hiou}
    run = DenseRun(head, "c.py", seed, "w", {}, {}, read_scores)
    return run, {
        "head": head,
        "seed": seed,
        "scores": {MODE: scores},
        "controls": {MODE: {**scores, "novel": 1.5}} if head == "template" else {},
        "seconds": 2.0,
        "commit": "abc",
    }


def test_summary_and_table() -> None:
    outcomes: list[Any] = [outcome("coop", 2, 26.0), outcome("template", 1, 25.0), outcome("coop", 1, 22.0)]
    outcomes += [outcome("subpt_nfl_heldout", 1, 24.0), (outcome("template", 2, 0.0)[0], "ValueError: no")]
    setting = {"training_images": 9, "domain": "tint", "scored_on": "last 3 validation scenes"}
    found = summarise(outcomes, ["template", "coop", "subpt_nfl_heldout"], [1, 2], setting, 5.04)
    assert found["heads"]["coop"]["h"] == [22.0, 26.0] and found["heads"]["coop"]["seeds"] == [1, 2]
    assert set(found["heads"]["template"]) == {*SCORES, "seeds"} and found["controls"] == {"template": [1.5]}
    assert found["failures"] == [{"head": "template", "seed": 2, "error": "ValueError: no"}]
    assert (found["run_seconds"], found["seconds"], found["commit"]) == (8.0, 5.0, "abc")
    table = study_table(found)
    assert "| coop | 40.0 ± 0.0 | 30.0 ± 0.0 | 20.0 ± 0.0 | 24.0 ± 2.8 |  |" in table
    assert "| subpt_nfl_heldout (knows the unseen names) |" in table and "+2.0 (1 of 1)" in table
    assert "Deviation of hIoU over the seeds: coop 2.83." in table
    assert "Failed: template seed 2." in table and "9 labelled images, domain tint" in table


def test_scores_are_read_from_a_test_table() -> None:
    groups = {"seen": {"miou": 30.0}, "unseen": {"miou": 20.0}, "all": {"miou": 27.0, "pacc": 44.444, "hiou": 24.0}}
    assert read_scores([{"groups": groups}]) == {"pacc": 44.44, "base": 30.0, "novel": 20.0, "h": 24.0}
