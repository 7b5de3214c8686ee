"""DetPro's way from end to end: regions embedded, a prompt learned for each grade, their list in the detector."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from mmengine.config import Config
from rich.console import Console
from torch.nn.functional import normalize

from subpt_dense.apis import load_config, train
from subpt_dense.apis import test as run_test
from subpt_dense.apis.grades import train_grades
from subpt_dense.apis.regions import extract_regions
from subpt_dense.datasets import get_split
from subpt_dense.prompts import LearnedPrompt, read_prompt_list
from subpt_dense.text import TextSpec
from subpt_dense.toyworld import MODEL_NAME
from tests.integration.conftest import CONFIGS, SHORT

GRADES = ((0.5, 0.8), (0.8, 1.1))
TRAIN, VAL = "data/toy/annotations/instances_train_seen.json", "data/toy/annotations/instances_val_all.json"
CLIP = TextSpec(MODEL_NAME, "data/toy/clip_seed0.pt")


def proposals(path: Path) -> Path:
    """Every box of the training scenes, moved right by parts of its width: IoUs 1, 0.82, 0.67, 0.54 and 0.33."""
    annotations = json.loads(Path(TRAIN).read_text())["annotations"]
    rows = [
        {"image_id": each["image_id"], "bbox": [x + part * w, y, w, h], "score": 1 - part}
        for each in annotations
        for x, y, w, h in [each["bbox"]]
        for part in (0, 0.1, 0.2, 0.3, 0.5)
    ]
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def prompts(toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The list that two grades of ``cls_toy_regions_subpt_nfl.py`` leave, three epochs long, on all scenes."""
    monkeypatch.chdir(toy_folder)
    monkeypatch.setattr("mmengine.config.config.FormatCode", lambda text, **_: (text, True))
    monkeypatch.setattr("mmengine.visualization.Visualizer._initialize_fig", lambda *_: [mock.MagicMock()] * 3)
    common: dict[str, Any] = {"clip": CLIP, "console": Console(quiet=True)}
    scenes = {"annotations": TRAIN, "images": "data/toy/train", "proposals": proposals(tmp_path / "proposals.json")}
    extract_regions(tmp_path / "regions", **scenes, **common)
    extract_regions(tmp_path / "val", annotations=VAL, images="data/toy/val", **common)
    options = {
        "train_cfg.max_epochs": 3,
        "train_cfg.val_begin": 3,
        "train_dataloader.batch_size": 32,
        "train_dataloader.dataset.data_prefix": {"_delete_": True, "proposals": str(tmp_path / "regions")},
        "val_dataloader.dataset.data_prefix": {"_delete_": True, "truth": str(tmp_path / "val")},
        "test_dataloader.dataset.data_prefix": {"_delete_": True, "truth": str(tmp_path / "val")},
        "custom_hooks.0.rank": 2,
        "model.prompt.length": 2,
        "model.language.names.generic.limit": 5,
    }
    config = CONFIGS / "cls_toy_regions_subpt_nfl.py"
    return train_grades(config, work_dir=str(tmp_path / "learned"), options=options, grades=GRADES)


def detector(tmp_path: Path, files: Path, **options: Any) -> Config:
    short = SHORT | {"train_cfg.max_iters": 2, "train_cfg.val_begin": 99, "default_hooks.checkpoint.interval": 2}
    options = {**short, "model.prompt.files": str(files), **options}
    return load_config(CONFIGS / "ovd_toy_detpro_subpt_nfl.py", options=options, work_dir=str(tmp_path / "detector"))


def test_learned_on_regions_used_in_a_detector(prompts: Path, tmp_path: Path) -> None:
    listed = read_prompt_list(prompts)
    assert [prompt.grade for prompt in listed] == list(GRADES)
    split = get_split("data/toy/split.json")

    model = train(detector(tmp_path, prompts)).model
    model.set_vocabulary(split.all)
    each = [LearnedPrompt(prompt.file, CLIP, vocabulary=split.all)() for prompt in listed]
    torch.testing.assert_close(model.prompt(), normalize(sum(each) / len(each), dim=1))
    checkpoint = tmp_path / "detector" / "iter_2.pth"
    state = torch.load(checkpoint, weights_only=True)
    assert not [key for key in state["state_dict"] if key.startswith("prompt.")]

    result = run_test(detector(tmp_path, prompts), checkpoint)
    groups = {name: group["classes"] for name, group in result["tables"][0]["groups"].items()}
    assert groups == {"base": 48, "novel": 17, "all": 65}
    head = result["head"]
    assert head["type"] == "AveragedPrompt" and [prompt["grade"] for prompt in head["prompts"]] == [
        [0.5, 0.8],
        [0.8, 1.1],
    ]
    assert head["prompts"][0]["origin"]["subspace"]["rank"] == 2  # how the rows were learned is in the result
    (anchor,) = head["anchors"]
    assert (anchor["kind"], anchor["num_names"], anchor["excluded"]) == ("generic", 5, "split.json")

    table = (prompts.parent / "iou_50_80").glob("*/vis_data/scalars.json")
    scores = [line for line in next(table).read_text().splitlines() if "cls/novel" in line]
    assert scores, "base and novel boxes were classified after the last epoch"

    other = json.loads(prompts.read_text())
    other["prompts"] = other["prompts"][:1]
    fewer = prompts.with_name("fewer.json")
    fewer.write_text(json.dumps(other))
    with pytest.raises(
        ValueError, match=r"checkpoint must come from the prompt head of this config.*prompts: checkpoint"
    ):
        run_test(detector(tmp_path, fewer), checkpoint)


def test_prompts_not_yet_learned_are_named_before_training(
    toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy_folder)
    default = Config.fromfile(CONFIGS / "ovd_toy_detpro_subpt_nfl.py").model.prompt.files
    assert default == "work_dirs/cls_toy_regions_subpt_nfl/prompts.json"
    with pytest.raises(FileNotFoundError, match=r"prompts.json' does not exist. .*python tools/train_grades.py CONFIG"):
        train(detector(tmp_path, default))
    assert not list(tmp_path.rglob("*.pth"))
