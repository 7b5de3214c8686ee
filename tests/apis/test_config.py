"""The hosts' flags, each on a config it changes."""

from pathlib import Path

import pytest
import torch

from subpt_dense.apis import load_config

TEXT = """
optim_wrapper = dict(type="mmengine.OptimWrapper", optimizer=dict(type="SGD", lr=0.02))
model = dict(prompt=dict(length=16))
auto_scale_lr = dict(enable=False, base_batch_size=16)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "my_run.py").write_text(TEXT)
    return tmp_path / "my_run.py"


def test_defaults(path):
    cfg = load_config(path)
    assert cfg.work_dir == "work_dirs/my_run" and cfg.launcher == "none"
    assert "resume" not in cfg and cfg.auto_scale_lr.enable is False
    assert cfg.optim_wrapper.type == "mmengine.OptimWrapper" and "loss_scale" not in cfg.optim_wrapper
    assert Path(cfg.filename) == path


@pytest.mark.parametrize("given", [str, Path])
def test_str_and_path(path, given):
    assert load_config(given(path)).model.prompt.length == 16


def test_options_reach_into_the_config(path):
    cfg = load_config(path, options={"model.prompt.length": 8, "randomness.seed": 3})
    assert cfg.model.prompt == {"length": 8} and cfg.randomness.seed == 3


@pytest.mark.parametrize(
    ("stated", "given", "expected"),
    [(None, None, "work_dirs/my_run"), ("theirs", None, "theirs"), ("theirs", "mine", "mine"), (None, "mine", "mine")],
)
def test_work_dir(path, stated, given, expected):
    if stated:
        path.write_text(TEXT + f"work_dir = {stated!r}\n")
    assert load_config(path, work_dir=given).work_dir == expected


def test_launcher(path):
    assert load_config(path, launcher="slurm").launcher == "slurm"


def test_amp(path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    wrapper = load_config(path, amp=True).optim_wrapper
    assert wrapper.type == "mmengine.AmpOptimWrapper" and wrapper.loss_scale == "dynamic"
    assert wrapper.optimizer == {"type": "SGD", "lr": 0.02}


def test_amp_without_a_gpu(path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="`--amp` needs a CUDA device: .* refuses CPUs"):
        load_config(path, amp=True)


def test_auto_scale_lr(path):
    assert load_config(path, auto_scale_lr=True).auto_scale_lr == {"enable": True, "base_batch_size": 16}


@pytest.mark.parametrize("line", ["", "auto_scale_lr = dict(enable=False)\n"])
def test_auto_scale_lr_of_a_config_that_states_no_batch(path, line):
    path.write_text(TEXT.replace("auto_scale_lr = dict(enable=False, base_batch_size=16)\n", line))
    with pytest.raises(ValueError, match=r"needs `auto_scale_lr\.base_batch_size` in the config\. my_run\.py has none"):
        load_config(path, auto_scale_lr=True)


def test_resume_the_latest(path):
    path.write_text(TEXT + "load_from = 'elsewhere.pth'\n")
    work_dir = path.parent / "run"
    with pytest.raises(FileNotFoundError, match="`--resume` needs a checkpoint in the work dir. .*run has none"):
        load_config(path, work_dir=str(work_dir), resume=True)
    work_dir.mkdir()
    (work_dir / "last_checkpoint").write_text("iter_5.pth")
    cfg = load_config(path, work_dir=str(work_dir), resume=True)
    assert cfg.resume is True and cfg.load_from is None  # mmengine then looks in the work dir


def test_options_beside_the_model_s_prompt(path):
    with pytest.raises(ValueError, match=r"must name the model's prompt, model\.prompt\.length\. Got prompt\.length"):
        load_config(path, options={"prompt.length": 8})


def test_resume_one_checkpoint(path, tmp_path):
    (tmp_path / "iter_5.pth").write_bytes(b"")
    cfg = load_config(path, resume=str(tmp_path / "iter_5.pth"))
    assert cfg.resume is True and cfg.load_from == str(tmp_path / "iter_5.pth")


def test_resume_a_checkpoint_that_is_not_there(path):
    with pytest.raises(FileNotFoundError, match=r"`--resume` must name an existing checkpoint.* Got 'no\.pth'"):
        load_config(path, resume="no.pth")


@pytest.mark.parametrize("name", ["no.py", "."])
def test_no_config(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="The config must be an existing file, such as .*Got '"):
        load_config(tmp_path / name)
