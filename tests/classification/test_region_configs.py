"""The configs that learn prompts on cached regions, and those of the detectors that take them."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from subpt_dense.datasets import require_files

CONFIGS = Path(__file__).parents[2] / "configs"
REGIONS = sorted(path.name for path in CONFIGS.glob("cls_*_regions_*.py"))
DATA = ("coco", "lvis", "toy")
_LOADED: dict[str, Any] = {}


def load(name: str) -> Any:
    if name not in _LOADED:
        _LOADED[name] = Config.fromfile(CONFIGS / name)
    return _LOADED[name]


def test_every_data_set_has_the_same_heads() -> None:
    heads = {"coop", "subpt", "nfl", "subpt_nfl"}
    assert sorted(f"cls_{data}_regions_{head}.py" for data in DATA for head in heads) == REGIONS


@pytest.mark.parametrize("name", REGIONS)
def test_a_region_config_agrees_with_itself(name: str) -> None:
    cfg = load(name)
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert train.image == val.image == cfg.model.language.text and cfg.test_dataloader == cfg.val_dataloader
    assert (train.data_root, train.split) == (val.data_root, val.split) and train.ann_file != val.ann_file
    assert (train.group, val.group, val.background) == ("base", "all", None)
    assert "grade" not in train  # all grades, unless one is asked for
    assert train.background_kept == 0.1 and train.get("balanced", False) == ("toy" not in name)
    assert not {*train.data_prefix.values()} & {*val.data_prefix.values()}
    names = cfg.model.language.names
    assert names.heldout == {"split": train.split, "group": "novel"} and names.generic.exclude == train.split
    # The paper's: 8 tokens, batches of 512, 6 epochs of SGD, soft background.
    assert cfg.model.prompt.length == 8 and cfg.train_dataloader.batch_size == 512
    assert cfg.train_cfg == {"type": "subpt_dense.RewindingTrainLoop", "max_epochs": 6, "val_interval": 1}
    assert cfg.param_scheduler[-1].T_max == 6 and cfg.model.loss.type == "subpt_dense.SoftBackground"
    assert dict(cfg.optim_wrapper.optimizer) == {"type": "SGD", "lr": 0.02 if "toy" in name else 2e-3}
    assert cfg.default_hooks.sampler_seed is None and "run_state" in cfg.default_hooks  # the loop's conditions


@pytest.mark.parametrize("data", DATA)
def test_the_help_makes_every_cache_that_is_needed(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = load(f"cls_{data}_regions_coop.py")
    with pytest.raises(FileNotFoundError) as error:
        require_files(cfg)
    root = cfg.train_dataloader.dataset.data_root
    commands = [line.strip() for line in cfg.data_help.splitlines() if "extract_regions" in line]
    made = {command.split("--out ")[1].split()[0]: command for command in commands}
    for stage in ("train", "val"):
        dataset = cfg[f"{stage}_dataloader"].dataset
        for prefix in dataset.data_prefix.values():
            assert f"{root}{prefix}" in str(error.value)
            command = made.pop((root + prefix).rstrip("/"))
            assert f"--annotations {root}{dataset.ann_file}" in command
            assert ("--ground-truth" in command) == ("truth" in prefix) != ("--rpn" in command)
            if data == "toy":  # elsewhere the command's own defaults are the model's CLIP
                assert f"--model {dataset.image.model} --pretrained {dataset.image.pretrained}" in command
    assert not made
    for command in commands:
        for config in (word for word in command.split() if word.startswith("configs/")):
            assert (CONFIGS.parent / config).is_file()


@pytest.mark.parametrize("data", DATA)
def test_a_detector_takes_the_prompts_of_its_own_data(data: str) -> None:
    detector, learned = load(f"ovd_{data}_detpro_subpt_nfl.py"), load(f"cls_{data}_regions_subpt_nfl.py")
    assert detector.model.prompt == {
        "type": "subpt_dense.AveragedPrompt",
        "files": f"work_dirs/cls_{data}_regions_subpt_nfl/prompts.json",
    }
    assert detector.model.language.text == learned.model.language.text
    dataset = detector.train_dataloader.dataset
    assert dataset.get("dataset", dataset).split == learned.train_dataloader.dataset.split
    # As every head's config of this data set, but for one line.
    lines, coop = ((CONFIGS / f"ovd_{data}_{head}.py").read_text() for head in ("detpro_subpt_nfl", "coop"))
    assert lines == coop.replace("prompts/coop.py", f"prompts/detpro_{data}.py")
