"""Runs over seeds on a real, tiny classification world: paired, kept, resumed, and honest about failures."""

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from rich.console import Console

from subpt_dense.apis import seed_run, seeds
from subpt_dense.apis.seed_run import SeedRun, do_run, finished, seeded_config
from subpt_dense.apis.seeds import run_seeds
from subpt_dense.evaluation import Trajectory, harmonic
from tests.apis.toy_cls import CONFIGS, make_world, short_options

HEADS = ("template", "coop", "subpt")
FEW = {"subpt": {"custom_hooks.0.rank": 1, "custom_hooks.0.explore": 2}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("seeds") / "data")


@pytest.fixture(autouse=True, scope="module")
def plain_config_dumps() -> Iterator[None]:
    """Every Runner formats its config three times, which takes longer than the short runs here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "pretty_text", property(lambda config: f"# {config.filename}\n"))
        yield


def run_all(world: Path, work_dir: Path, heads: tuple[str, ...] = HEADS, numbers: Any = (1, 2), **options: Any) -> Any:
    console = Console(file=io.StringIO(), width=200)
    more = {head: {**short_options(head, world), **FEW.get(head, {}), **options.get(head, {})} for head in heads}
    configs = {head: CONFIGS / f"cls_toy_{head}.py" for head in heads}
    summary = run_seeds(configs, list(numbers), work_dir, head_options=more, console=console)
    (work_dir.parent / "console.txt").write_text(console.file.getvalue())
    return summary


@pytest.fixture(scope="module")
def study(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    work_dir = tmp_path_factory.mktemp("study") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work_dir.parent)
        return work_dir, run_all(world, work_dir)


def test_summary_holds_every_seed_of_every_head(study: tuple[Path, dict[str, Any]]) -> None:
    work_dir, summary = study
    assert json.loads((work_dir / "summary.json").read_text()) == summary
    assert list(summary["heads"]) == list(HEADS) and summary["seeds"] == [1, 2] and summary["failures"] == []
    assert summary["seconds"] > 0 and summary["commit"]
    for head, found in summary["heads"].items():
        assert found["seeds"] == [1, 2]
        for i in range(2):
            assert found["h"][i] == pytest.approx(harmonic(found["base"][i], found["novel"][i]))
            assert found["base"][i] == found["curves"]["base"][i][-1]
            at = found["curves"]["epoch"].index(found["best"]["epoch"][i])
            assert found["best"]["novel"][i] == found["curves"]["novel"][i][at]
        assert found["curves"]["epoch"] == ([0] if head == "template" else [1, 2, 3])
    assert (work_dir / "curves.png").stat().st_size > 10_000
    assert "| subpt " in (work_dir / "table.md").read_text()
    console = (work_dir.parent / "console.txt").read_text()
    assert console.count("coop seed") == 2 and "base" in console


def test_seeds_differ_and_are_paired(study: tuple[Path, dict[str, Any]], world: Path) -> None:
    work_dir, _ = study
    runs = {(head, s): Trajectory.read(work_dir / head / f"seed{s}") for head in ("coop", "subpt") for s in (1, 2)}
    assert not torch.equal(runs["coop", 1].initial, runs["coop", 2].initial)
    for seed in (1, 2):  # one seed: the same start, images and order, so exploring is CoOp
        assert torch.equal(runs["coop", seed].initial, runs["subpt", seed].initial)
        assert torch.equal(runs["coop", seed].parameters[:2], runs["subpt", seed].parameters[:2])
    assert runs["subpt", 1].phases == ("explore",) * 2 + ("train",) * 3
    result = json.loads((work_dir / "subpt" / "seed1" / "result.json").read_text())
    assert result["curve"]["epoch"] == [1, 2, 3] and result["explored"]["epoch"] == [1, 2]
    run = SeedRun("coop", str(CONFIGS / "cls_toy_coop.py"), 7, "w", short_options("coop", world))
    cfg = seeded_config(run)
    assert cfg.randomness.seed == 7 and cfg.train_dataloader.dataset.dataset.draw == 7
    assert cfg.selection_dataset.dataset.draw == 7  # what a draw leaves over is of the same draw
    assert "draw" not in cfg.val_dataloader.dataset.dataset


def test_the_best_epoch_is_chosen_by_validation_images_alone(study: tuple[Path, dict[str, Any]]) -> None:
    work_dir, _ = study
    for head in ("coop", "subpt"):
        result = json.loads((work_dir / head / "seed2" / "result.json").read_text())
        assert len(result["selection"]) == 3
        assert result["best"]["epoch"] == 1 + int(np.argmax(result["selection"]))
        assert all(0 <= score <= 100 for score in result["selection"])


def test_validation_scores_are_those_of_a_model_with_that_prompt(
    study: tuple[Path, dict[str, Any]], world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last epoch's, by the trained model itself; and the model is left as it was."""
    seen = {}
    scores = seed_run.validation_scores

    def spy(model: Any, dataset: Any, trajectory: Any, epochs: Any) -> list[float]:
        before = model.prompt.context.detach().clone()
        found = scores(model, dataset, trajectory, epochs)
        assert torch.equal(model.prompt.context, before) and len(model.prompt.vocabulary) == 48
        data = seed_run_data(dataset)
        model.eval()
        logits = model(torch.stack([item["inputs"] for item in data]), mode="tensor")
        labels = torch.tensor([item["label"] for item in data])
        seen["last"] = 100 * (logits.argmax(1) == labels).float().mean().item()
        seen["found"] = found
        return found

    monkeypatch.setattr(seed_run, "validation_scores", spy)
    monkeypatch.chdir(study[0].parent)
    folder = str(study[0].parent / "again")
    options = {**short_options("coop", world), "optim_wrapper.optimizer.lr": 10.0}
    do_run(SeedRun("coop", str(CONFIGS / "cls_toy_coop.py"), 1, folder, options))
    assert seen["found"][-1] == pytest.approx(seen["last"], rel=1e-6) and len(set(seen["found"])) > 1


def seed_run_data(dataset: Any) -> list[Any]:
    from subpt_dense.registry import DATASETS

    data = DATASETS.build(dict(dataset))
    return [data[i] for i in range(len(data))]


def test_finished_runs_are_kept_and_others_done(
    study: tuple[Path, dict[str, Any]], world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_dir, before = study
    monkeypatch.chdir(work_dir.parent)
    done = []
    real = seeds.do_run
    monkeypatch.setattr(seeds, "do_run", lambda run, commit: done.append((run.head, run.seed)) or real(run, commit))
    after = run_all(world, work_dir, numbers=(1, 2, 3), heads=("coop",))
    assert done == [("coop", 3)] and after["heads"]["coop"]["h"][:2] == before["heads"]["coop"]["h"]
    # Another config is another run: its folder is not free for it, because a run without checkpoints locks nothing.
    run = SeedRun(
        "coop", str(CONFIGS / "cls_toy_coop.py"), 1, str(work_dir / "coop/seed1"), short_options("coop", world)
    )
    assert finished(run) is not None
    assert finished(run._replace(options={**run.options, "optim_wrapper.optimizer.lr": 0.5})) is None


def test_a_failing_seed_is_reported_and_the_rest_goes_on(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    real = seeds.do_run

    def sometimes(run: SeedRun, commit: str) -> Any:
        if run.seed == 2:
            raise FloatingPointError("loss is nan")
        return real(run, commit)

    monkeypatch.setattr(seeds, "do_run", sometimes)
    summary = run_all(world, tmp_path / "runs", heads=("coop",), numbers=(1, 2, 3))
    assert summary["heads"]["coop"]["seeds"] == [1, 3] and len(summary["heads"]["coop"]["h"]) == 2
    (failure,) = summary["failures"]
    assert failure["head"] == "coop" and failure["seed"] == 2
    assert failure["error"].startswith("FloatingPointError: loss is nan (test_seeds.py:")
    assert "coop seed 2: FAILED, FloatingPointError" in (tmp_path / "console.txt").read_text()
    assert "Failed: coop seed 2." in (tmp_path / "runs" / "table.md").read_text()


def test_missing_data_fails_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    summary = run_all(tmp_path / "nowhere", tmp_path / "runs", heads=("coop",), numbers=(1,))
    assert not summary["heads"] and "FileNotFoundError" in summary["failures"][0]["error"]
    assert not (tmp_path / "runs" / "table.md").exists()


def test_an_evaluator_without_groups_is_refused() -> None:
    with pytest.raises(ValueError, match=r"need an evaluator with base, novel and harmonic .*Got cls/all\."):
        seed_run._score({"cls/all": 3.0}, "base")
    assert math.isclose(seed_run._score({"cls/base": 3.0}, "base"), 3.0)


@pytest.mark.parametrize(
    ("configs", "numbers", "jobs"),
    [({}, [1], 1), ({"a": "a.py"}, [], 1), ({"a": "a.py"}, [1, 1], 1), ({"a": "a"}, [1], 0)],
)
def test_refused(tmp_path: Path, configs: Any, numbers: Any, jobs: int) -> None:
    with pytest.raises(ValueError, match=r"run_seeds needs at least one config, different seeds and `jobs` >= 1\. Got"):
        run_seeds(configs, numbers, tmp_path, jobs=jobs)


@pytest.mark.slow
def test_two_processes_give_what_one_gives(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = short_options("coop", world)
    configs = {"coop": CONFIGS / "cls_toy_coop.py"}
    both = [run_seeds(configs, [1, 2], tmp_path / f"j{jobs}", options=options, jobs=jobs) for jobs in (1, 2)]
    assert both[0]["heads"] == both[1]["heads"] and not both[1]["failures"]
