"""Training and testing on the toy world, from the shipped config to the table on disk."""

import json
from pathlib import Path
from unittest import mock

import pytest
import torch

from subpt_dense import apis
from subpt_dense.hooks import head_identity

CONFIGS = Path(__file__).parents[2] / "configs"
SHORT = {
    "train_cfg.max_iters": 2,
    "train_cfg.val_interval": 2,
    "default_hooks.checkpoint.interval": 2,
    "train_dataloader.batch_size": 2,
}


def config(folder: Path, name: str = "coop", **options):
    return apis.load_config(CONFIGS / f"ovd_toy_{name}.py", options={**SHORT, **options}, work_dir=str(folder / "run"))


@pytest.fixture
def no_figures():
    """mmengine makes two figures for every visualizer, which takes a while."""
    with mock.patch("mmengine.visualization.Visualizer._initialize_fig", return_value=[mock.MagicMock()] * 3):
        yield


def test_from_config_to_table(world, tmp_path, no_figures):
    runner = apis.train(config(tmp_path))
    assert runner.iter == 2 and runner.model.prompt.vocabulary == runner.train_dataloader.dataset.metainfo["classes"]
    assert len(runner.model.prompt.vocabulary) == 48
    checkpoint = tmp_path / "run" / "iter_2.pth"
    stored = torch.load(checkpoint, weights_only=True)
    assert "prompt.context" in stored["state_dict"] and stored["prompt_identity"] == head_identity(runner)

    result = apis.test(config(tmp_path), checkpoint, out=tmp_path / "made" / "table.json")
    assert json.loads((tmp_path / "made" / "table.json").read_text()) == result
    assert result["checkpoint"] == "iter_2.pth" and result["config"] == "ovd_toy_coop.py"
    assert result["head"] == head_identity(runner)
    (table,) = result["tables"]
    assert table["protocol"] == "toy-ovd-48/17 generalised" and table["images"] == 3
    assert [table["groups"][group]["classes"] for group in ("base", "novel", "all")] == [48, 17, 65]
    assert "coco/base_ap50" in result["metrics"]

    with pytest.raises(FileExistsError, match="ovd_toy_coop.py that differs in model"):
        apis.train(config(tmp_path, **{"model.prompt.length": 4}))
    with pytest.raises(ValueError, match="length: checkpoint 16, model 4"):
        apis.test(config(tmp_path, **{"model.prompt.length": 4}), checkpoint)


def test_show_dir_is_handed_to_the_drawing_hook(world, tmp_path):
    (tmp_path / "there.pth").write_bytes(b"")
    cfg = config(tmp_path, "template")
    with mock.patch("subpt_dense.apis.run.Runner") as runner:
        runner.from_cfg.return_value.test.return_value = {}
        runner.from_cfg.return_value.test_loop.evaluator.metrics = []
        runner.from_cfg.return_value.model.prompt.identity.return_value = {"type": "x"}
        result = apis.test(cfg, tmp_path / "there.pth", show_dir="drawn")
    hook = cfg.default_hooks.visualization
    assert hook.draw is True and hook.test_out_dir == str(world / "drawn")  # absolute: mmdet joins it to the work dir
    assert cfg.load_from == str(tmp_path / "there.pth") and cfg.resume is False
    assert result["tables"] == [] and json.loads((tmp_path / "run" / "test.json").read_text()) == result


def test_missing_data_is_named_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    help_too = r"instances_train_seen\.json[\s\S]*python -m subpt_dense\.toyworld\.build"
    with pytest.raises(FileNotFoundError, match=help_too):
        apis.train(config(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        apis.test(config(tmp_path), "x.pth")
    assert "instances_val_all" in str(error.value) and "instances_train_seen" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("checkpoint", "out", "error", "message"),
    [
        ("no.pth", None, FileNotFoundError, "The checkpoint must be an existing file. Got 'no.pth'"),
        ("there.pth", "table.csv", ValueError, "`--out` must end in .json. Got 'table.csv'"),
    ],
)
def test_refusals(world, tmp_path, checkpoint, out, error, message):
    (tmp_path / "there.pth").write_bytes(b"")
    path = tmp_path / checkpoint if checkpoint == "there.pth" else checkpoint
    with pytest.raises(error, match=message):
        apis.test(config(tmp_path), path, out=out)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID"])
def test_only_the_first_process_claims_the_work_dir(world, tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with mock.patch("subpt_dense.apis.run.Runner") as runner:
        apis.train(config(tmp_path))
    runner.from_cfg.return_value.train.assert_called_once_with()
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv(variable, "0")
    with mock.patch("subpt_dense.apis.run.Runner"):
        apis.train(config(tmp_path))
    assert (tmp_path / "run" / "run.json").is_file()


def test_what_learns_nothing_is_tested_without_a_checkpoint_and_never_trained(tmp_path):
    cfg = apis.load_config(CONFIGS / "cls_toy_template.py", work_dir=str(tmp_path / "run"))
    with pytest.raises(
        ValueError, match=r"must have `train_cfg`. cls_toy_template.py has none, for nothing is learned"
    ):
        apis.train(cfg)
    with mock.patch("subpt_dense.apis.run.Runner") as runner, mock.patch("subpt_dense.apis.run.require_files"):
        runner.from_cfg.return_value.test.return_value = {}
        runner.from_cfg.return_value.test_loop.evaluator.metrics = []
        runner.from_cfg.return_value.model.prompt.identity.return_value = {"type": "x"}
        assert apis.test(cfg)["checkpoint"] is None and cfg.load_from is None
        with pytest.raises(ValueError, match="`--show-dir` needs a task that draws.*cls_toy_template.py draws nothing"):
            apis.test(cfg, show_dir="drawn")
        learns = apis.load_config(CONFIGS / "cls_toy_coop.py", work_dir=str(tmp_path / "run"))
        with pytest.raises(ValueError, match="`checkpoint` must be given for cls_toy_coop.py, which learns. Got none"):
            apis.test(learns)
