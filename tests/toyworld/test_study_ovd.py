"""The detection study on a tiny world: every step for real, a second call that does nothing, and its table."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from rich.console import Console

from subpt_dense.toyworld import dense_run, study_ovd
from subpt_dense.toyworld.dense_run import DenseRun
from subpt_dense.toyworld.relocated import relocated
from subpt_dense.toyworld.study_ovd import DETPRO, HEADS, INSIDE, MODES, run_ovd_study
from subpt_dense.toyworld.study_ovd_table import read_scores, study_table, summarise

CONFIGS = Path(__file__).parents[2] / "configs"
SHORT = {"train_cfg.max_iters": 2, "train_dataloader.batch_size": 2}


@pytest.mark.parametrize("name", [*(f"ovd_toy_vild_{head}" for head in INSIDE), "cls_toy_regions_subpt_nfl"])
def test_a_relocated_detector_reads_nothing_of_the_first_world(name: str, tmp_path: Path) -> None:
    config = CONFIGS / f"{name}.py"
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(relocated(config, tmp_path / "world", home="data/toy"))
    parts = {key: value for key, value in cfg.to_dict().items() if key not in ("data_help", "embed")}
    assert "data/toy" not in str(parts) and str(tmp_path / "world") in str(cfg.train_dataloader)


def test_all_that_is_studied_has_a_config() -> None:
    runs = [study_ovd._run(head, 1, Path("w"), Path("data/toy_ovd"), CONFIGS, -300, {}) for head in HEADS]
    assert all(Path(run.config).is_file() for run in runs) and all(set(run.modes) == set(MODES) for run in runs)
    assert [run.head for run in runs if run.grades] == [DETPRO] and Path(runs[-1].grades or "").is_file()
    assert [run.head for run in runs if run.controlled] == ["template"]


@pytest.mark.slow
def test_the_study_for_real_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study_ovd, "_CHOICES", 3)
    monkeypatch.setattr(study_ovd, "_REPORTED", 3)
    console = Console(file=io.StringIO(), width=300)
    asked: dict[str, Any] = {"seeds": [1], "heads": ("template", "coop"), "scenes": 40, "jobs": 1, "options": SHORT}
    found = run_ovd_study(tmp_path / "study", configs=CONFIGS, console=console, **asked)
    assert not found["failures"], found["failures"]
    assert list(found["heads"]) == [f"{mode}/{head}" for mode in MODES for head in ("template", "coop")]
    assert list(found["controls"]) == ["text/template", "ensemble/template"]
    assert (tmp_path / "study" / "novel.png").read_bytes().startswith(b"\x89PNG")
    table = json.loads((tmp_path / "study/coop/seed1/image.json").read_text())["tables"][0]
    assert table["images"] == 3 and table["details"]["ap_of"] in ("bbox", "segm")

    monkeypatch.setattr(dense_run, "train", lambda cfg: pytest.fail("trained again"))
    monkeypatch.setattr(dense_run, "test", lambda *a, **k: pytest.fail("tested again"))
    again = run_ovd_study(tmp_path / "study", configs=CONFIGS, console=console, **asked)
    assert again["heads"] == found["heads"]
    assert found["seconds"] >= found["run_seconds"] and again["seconds"] is None


def outcome(head: str, seed: int, novel: float) -> tuple[DenseRun, dict[str, Any]]:
    scores = {"base": 80.0, "novel": novel, "all": 70.0}
    run = DenseRun(head, "c.py", seed, "w", {}, {}, read_scores)
    return run, {
        "head": head,
        "seed": seed,
        "scores": {mode: {"bbox": scores, "segm": {**scores, "novel": novel - 5}} for mode in MODES},
        "controls": {"text": {"bbox": {**scores, "novel": 1.0}}} if head == "template" else {},
        "seconds": 2.0,
        "commit": "abc",
    }


def test_summary_and_table() -> None:
    outcomes: list[Any] = [outcome("coop", 2, 60.0), outcome("template", 1, 70.0), outcome("coop", 1, 50.0)]
    outcomes.append((DenseRun("template", "c.py", 2, "w", {}, {}, read_scores), "ValueError: no"))
    setting = {"training_scenes": 9, "domain": "tint", "scored_on": "last 3 validation scenes"}
    found = summarise(outcomes, ["template", "coop"], MODES, [1, 2], setting, 3.0)
    assert found["heads"]["text/coop"]["novel"] == [50.0, 60.0] and found["heads"]["text/coop"]["seeds"] == [1, 2]
    assert found["heads"]["ensemble/coop"]["mask"]["novel"] == [45.0, 55.0]
    assert found["heads"]["text/coop"]["h"] == [61.54, 68.57]  # 2 * 80 * 50 / 130, 2 * 80 * 60 / 140
    assert found["controls"] == {"text/template": [1.0]}
    assert found["failures"] == [{"head": "template", "seed": 2, "error": "ValueError: no"}]
    assert (found["run_seconds"], found["seconds"], found["commit"]) == (6.0, 3.0, "abc")
    table = study_table(found)
    assert "| text/coop | 80.0 ± 0.0 | 55.0 ± 7.1 |" in table
    assert "| text/template | 80.0 | 70.0 |" in table and "+20.0 (1 of 1)" in table  # seed 1 is what both have
    assert "Failed: template seed 2." in table and "9 training scenes, domain tint" in table
