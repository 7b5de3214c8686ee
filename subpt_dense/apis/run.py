"""Training and testing, for every task the hosts know."""

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner

from subpt_dense.apis.launch import is_first_process, prepare_launch, prepare_model
from subpt_dense.apis.work_dir import claim_work_dir
from subpt_dense.datasets import require_files, write_json
from subpt_dense.evaluation import ResultTable
from subpt_dense.hooks import head_identity


def train(cfg: Config) -> Runner:
    """Train as the config says, after checking that its data is there and its work dir is free.

    Returns:
        The runner, trained.

    Raises:
        ValueError: If nothing is learned.
        FileNotFoundError: Naming every missing file, and how to get it.
        FileExistsError: If the work dir holds another config's run.
    """
    if cfg.get("train_cfg") is None:
        raise ValueError(
            f"A config to train must have `train_cfg`. {_name(cfg)} has none, for nothing is learned: "
            "test it with `python tools/test.py CONFIG`."
        )
    require_files(cfg)
    if is_first_process():
        claim_work_dir(cfg)
    prepare_launch(cfg)
    runner = Runner.from_cfg(cfg)
    prepare_model(runner)
    runner.train()
    return runner


def test(
    cfg: Config,
    checkpoint: str | Path | None = None,
    *,
    out: str | Path | None = None,
    show_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Test a checkpoint.

    Args:
        cfg: The config; its ``test_evaluator`` scores.
        checkpoint: What to test; None for a config where nothing is learned.
        out: JSON file for the tables; by default ``<work_dir>/test.json``.
        show_dir: Folder for pictures with the detections drawn; None draws none.

    Returns:
        What was written: ``tables``, the head's ``identity``, the checkpoint's name, and the host's own ``metrics``.

    Raises:
        FileNotFoundError: Naming every missing file, the checkpoint included.
        ValueError: If ``out`` is no JSON file, something is learned and there is no checkpoint, or the task draws none.
    """
    require_files(cfg, stages=("test",))
    if checkpoint is None and cfg.get("train_cfg") is not None:
        raise ValueError(f"`checkpoint` must be given for {_name(cfg)}, which learns. Got none.")
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise FileNotFoundError(f"The checkpoint must be an existing file. Got {str(checkpoint)!r}.")
    out = Path(out or Path(cfg.work_dir) / "test.json")
    if out.suffix != ".json":
        raise ValueError(f"`--out` must end in .json. Got {str(out)!r}.")
    cfg.load_from, cfg.resume = None if checkpoint is None else str(checkpoint), False
    if show_dir is not None and "visualization" not in cfg.default_hooks:
        raise ValueError(f"`--show-dir` needs a task that draws, such as detection. {_name(cfg)} draws nothing.")
    if show_dir is not None:
        cfg.default_hooks.visualization.update(draw=True, test_out_dir=str(Path(show_dir).resolve()))
    prepare_launch(cfg)
    runner = Runner.from_cfg(cfg)
    metrics = runner.test()
    result = {
        "checkpoint": None if checkpoint is None else Path(checkpoint).name,
        "config": Path(cfg.filename or "").name,
        **collect_result(runner, metrics),
    }
    if is_main_process():
        write_json(out, result, indent=1)
        runner.logger.info(f"results: {out}")
    return result


def _name(cfg: Config) -> str:
    return Path(cfg.filename or "this config").name


def collect_result(runner: Runner, metrics: dict[str, Any]) -> dict[str, Any]:
    """Tables and facts of a runner that has just been tested."""
    evaluator: Evaluator = runner.test_loop.evaluator
    tables = [metric.table for metric in evaluator.metrics if isinstance(getattr(metric, "table", None), ResultTable)]
    return {
        "head": head_identity(runner),
        "tables": [table.to_dict() for table in tables],
        "metrics": {key: float(value) for key, value in metrics.items() if isinstance(value, (int, float))},
    }
