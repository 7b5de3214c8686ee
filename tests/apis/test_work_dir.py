"""Whose run a folder holds."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger

from subpt_dense.apis import claim_work_dir
from tests.hooks.prompt_run import Lines


@pytest.fixture
def make(tmp_path: Path):
    """A config in the folder, with changes on top."""

    def config(**changes) -> Config:
        plain = {"work_dir": str(tmp_path / "w"), "model": {"length": 16}, "train_cfg": {"max_iters": 3}}
        return Config(plain | changes)

    return config


@pytest.fixture
def lines():
    handler = Lines()
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)


def add_checkpoint(cfg) -> None:
    (Path(cfg.work_dir) / "iter_1.pth").write_bytes(b"")


def record(cfg) -> dict:
    return json.loads((Path(cfg.work_dir) / "run.json").read_text())


def test_a_new_folder_is_claimed(make):
    claim_work_dir(make())
    assert record(make())["config"] == "a config in memory"
    assert {*record(make())["parts"]} == {"model", "train_cfg"}


def test_the_configs_file_is_named(tmp_path):
    (tmp_path / "mine.py").write_text("model = dict(length=1)\n")
    cfg = Config.fromfile(tmp_path / "mine.py")
    cfg.work_dir = str(tmp_path / "w")
    claim_work_dir(cfg)
    assert record(cfg)["config"] == "mine.py"


@pytest.mark.parametrize(
    "same", [{}, {"launcher": "slurm", "log_level": "DEBUG"}, {"load_from": "x.pth"}, {"resume": True}], ids=str
)
def test_the_same_run_again(make, lines, same):
    claim_work_dir(make())
    before = record(make())
    claim_work_dir(make(**same))
    assert record(make()) == before and not lines


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"model": {"length": 8}}, "model"),
        ({"train_cfg": {"max_iters": 4}, "model": {"length": 8}}, "model, train_cfg"),
        ({"randomness": {"seed": 1}}, "randomness"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_config_is_refused_and_the_parts_named(make, other, named):
    claim_work_dir(make())
    add_checkpoint(make())
    before = record(make())
    message = f"holds a run of a config in memory that differs in {named}. Choose another"
    with pytest.raises(FileExistsError, match=message):
        claim_work_dir(make(**other))
    assert record(make()) == before


def test_a_part_that_is_gone_differs(make):
    claim_work_dir(make(randomness={"seed": 1}))
    add_checkpoint(make())
    with pytest.raises(FileExistsError, match="differs in randomness"):
        claim_work_dir(make())


def test_a_start_that_failed_before_any_checkpoint_locks_nothing(make):
    claim_work_dir(make(randomness={"seed": 1}))
    claim_work_dir(make(randomness={"seed": 2}))


def test_resuming_with_another_config_is_allowed_and_logged(make, lines):
    claim_work_dir(make())
    add_checkpoint(make())
    claim_work_dir(make(train_cfg={"max_iters": 9}, resume=True))
    assert lines == ["resuming a run whose config differed in: train_cfg"]
    claim_work_dir(make(train_cfg={"max_iters": 9}))  # from now on it is this config's


def test_checkpoints_of_an_unknown_run(make):
    folder = Path(make().work_dir)
    folder.mkdir()
    (folder / "epoch_1.pth").write_bytes(b"")
    with pytest.raises(FileExistsError, match="holds checkpoints of an unknown run. Choose another folder"):
        claim_work_dir(make())
    claim_work_dir(make(resume=True))
    claim_work_dir(make())


def test_other_files_do_no_harm(make):
    folder = Path(make().work_dir)
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    claim_work_dir(make())
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "run.json"]
