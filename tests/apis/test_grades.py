"""One prompt a grade: as many runs, none done twice, and the list that a detector's head reads."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from mmengine.config import Config

from subpt_dense.apis import grades as module
from subpt_dense.apis.grades import GRADES, train_grades
from subpt_dense.prompts import AveragedPrompt, load_prompt, read_prompt_list
from tests.classification.region_world import relocated, write_world

CONFIGS = Path(__file__).parents[2] / "configs"
TWO = ((0.5, 0.8), (0.8, 1.1))

Learn = Callable[..., Path]


@pytest.fixture(scope="module")
def world(tiny_clip: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("regions")
    return root, write_world(root, tiny_clip)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders of the runs that were started. Configs are not laid out, which is slow."""
    monkeypatch.setattr("mmengine.config.config.FormatCode", lambda text, **_: (text, True))
    monkeypatch.setattr("mmengine.visualization.Visualizer._initialize_fig", lambda *_: [mock.MagicMock()] * 3)
    started: list[str] = []
    train = module.train

    def noted(cfg: Config) -> Any:
        started.append(Path(cfg.work_dir).name)
        return train(cfg)

    monkeypatch.setattr(module, "train", noted)
    return started


@pytest.fixture
def learn(world: tuple[Path, dict[str, Any]], runs: list[str], tmp_path: Path) -> Learn:
    """Two epochs of ``cls_toy_regions_<head>.py`` a grade, on the tiny world."""

    def call(head: str = "coop", grades: Any = TWO, **options: Any) -> Path:
        short = {"train_cfg.max_epochs": 2, "train_cfg.val_begin": 9}
        config = CONFIGS / f"cls_toy_regions_{head}.py"
        return train_grades(
            config, work_dir=str(tmp_path / "learned"), options=relocated(*world) | short | options, grades=grades
        )

    return call


def test_each_grade_is_learned_on_its_own_regions(learn: Learn, runs: list[str], world: Any, tmp_path: Path) -> None:
    path = learn()
    assert path == tmp_path / "learned" / "prompts.json" and runs == ["iou_50_80", "iou_80_110"]
    listed = read_prompt_list(path)
    assert [prompt.grade for prompt in listed] == list(TWO)
    logs = [next(prompt.file.parent.glob("*/*.log")).read_text() for prompt in listed]
    # Twelve boxes. Proposals of each have the IoUs 1, 9/11, 2/3, 7/13, and two of background; the box itself has 1.
    counts = {"IoU [0.5, 0.8)": 24, "IoU [0.8, 1.1)": 36}
    for log, (limits, count) in zip(logs, counts.items(), strict=True):
        assert f"{count} regions of 2 classes, 24 of background" in log and limits in log
    heads = [load_prompt(prompt.file).parameters["context"] for prompt in listed]
    assert not heads[0].equal(heads[1])
    mean = AveragedPrompt(path, world[1], vocabulary=("cat", "owl"))
    assert mean.grades == TWO and mean().shape == (2, 24)
    assert [prompt["origin"]["config"] for prompt in mean.identity()["prompts"]] == ["cls_toy_regions_coop.py"] * 2


def test_what_is_finished_is_not_done_again(learn: Learn, runs: list[str], tmp_path: Path) -> None:
    path = learn()
    before = path.read_bytes()
    learn()
    assert len(runs) == 2 and path.read_bytes() == before
    (tmp_path / "learned" / "iou_80_110" / "grade.json").unlink()  # as if stopped in its middle
    path.unlink()
    learn()
    assert runs[2:] == ["iou_80_110"] and path.read_bytes() == before  # the same seed, the same prompt
    prompt = tmp_path / "learned" / "iou_50_80" / "prompt.safetensors"
    prompt.write_bytes(prompt.read_bytes()[:-1] + b"?")
    learn()
    assert runs[3:] == ["iou_50_80"] and path.read_bytes() == before


def test_another_config_s_folder_is_refused(learn: Learn) -> None:
    learn(grades=TWO[:1])
    with pytest.raises(
        FileExistsError, match=r"iou_50_80 holds a run of cls_toy_regions_coop.py that differs in random"
    ):
        learn(grades=TWO[:1], **{"randomness.seed": 9})


def test_subpt_has_a_subspace_of_its_own_for_each_grade(learn: Learn) -> None:
    short = {"train_cfg.max_epochs": 3, "custom_hooks.0.rank": 2, "train_dataloader.batch_size": 4}
    bases = {
        load_prompt(prompt.file).facts["subspace"]["basis"] for prompt in read_prompt_list(learn("subpt", **short))
    }
    assert len(bases) == 2


@pytest.mark.parametrize(
    ("grades", "message"),
    [
        ((), r"must be IoUs \(low, high\) in rising order, .* Got \(\)"),
        (((0.6, 0.5),), r"Got \(\(0.6, 0.5\),\)"),
        (((0.0, 0.5),), r"Got \(\(0.0, 0.5\),\)"),
        (((0.6, 0.7), (0.5, 0.6)), r"Got \(\(0.6, 0.7\), \(0.5, 0.6\)\)"),
        (((0.5, 0.6, 0.7),), r"Got \(\(0.5, 0.6, 0.7\),\)"),
        (((0.5, 0.501), (0.501, 0.502)), r"must differ by 0.01 or more"),
    ],
    ids=str,
)
def test_refused_grades(learn: Learn, grades: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learn(grades=grades)


def test_other_configs_are_refused(runs: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must train on `subpt_dense.RegionSet`. cls_toy_coop.py does not"):
        train_grades(CONFIGS / "cls_toy_coop.py", work_dir=str(tmp_path))
    assert not runs


def test_missing_data_is_named_with_the_command(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        train_grades(CONFIGS / "cls_coco_regions_coop.py", work_dir=str(tmp_path / "learned"))
    for part in (
        "annotations/instances_train2017_seen_2.json",
        "data/coco/regions/",
        "regions_truth/",
        "regions_val_tr",
    ):
        assert part in str(error.value)
    assert "prepare_data.py coco-ovd" in str(error.value) and "tools/extract_regions.py" in str(error.value)
    assert not list((tmp_path / "learned").rglob("*.pth"))


def test_the_grades_of_the_paper_cover_every_region_that_shows_a_class() -> None:
    assert [low for low, _ in GRADES] == [0.5, 0.6, 0.7, 0.8, 0.9] and GRADES[-1][1] > 1
    assert all(high == low for (_, high), (low, _) in zip(GRADES[:-1], GRADES[1:], strict=True))


def test_the_record_is_plain(learn: Learn, tmp_path: Path) -> None:
    path = learn(grades=TWO[:1])
    content = json.loads(path.read_text())
    assert content["prompts"][0]["file"] == "iou_50_80/prompt.safetensors" and content["prompts"][0]["grade"] == [
        0.5,
        0.8,
    ]
