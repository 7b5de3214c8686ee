"""Training and testing, for every task the hosts know."""

import os
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner

from subpt_dense.apis.work_dir import claim_work_dir
from subpt_dense.datasets import require_files, write_json
from subpt_dense.evaluation import ResultTable
from subpt_dense.hooks import head_identity


def train(cfg: Config) -> Runner:
    """Train as the config says, after checking that its data is there and its work dir is free.

    Returns:
        The runner, trained.

    Raises:
        FileNotFoundError: Naming every missing file, and how to get it.
        FileExistsError: If the work dir holds another config's run.
    """
    require_files(cfg)
    if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0:
        claim_work_dir(cfg)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test(
    cfg: Config, checkpoint: str | Path, *, out: str | Path | None = None, show_dir: str | Path | None = None
) -> dict[str, Any]:
    """Test a checkpoint.

    Args:
        cfg: The config; its ``test_evaluator`` scores.
        checkpoint: What to test.
        out: JSON file for the tables; by default ``<work_dir>/test.json``.
        show_dir: Folder for pictures with the detections drawn; None draws none.

    Returns:
        What was written: ``tables``, the head's ``identity``, the checkpoint's name, and the host's own ``metrics``.

    Raises:
        FileNotFoundError: Naming every missing file, the checkpoint included.
        ValueError: If ``out`` is no JSON file.
    """
    require_files(cfg, stages=("test",))
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f"The checkpoint must be an existing file. Got {str(checkpoint)!r}.")
    out = Path(out or Path(cfg.work_dir) / "test.json")
    if out.suffix != ".json":
        raise ValueError(f"`--out` must end in .json. Got {str(out)!r}.")
    cfg.load_from, cfg.resume = str(checkpoint), False
    if show_dir is not None:
        cfg.default_hooks.visualization.update(draw=True, test_out_dir=str(Path(show_dir).resolve()))
    runner = Runner.from_cfg(cfg)
    metrics = runner.test()
    result = {
        "checkpoint": Path(checkpoint).name,
        "config": Path(cfg.filename or "").name,
        **collect_result(runner, metrics),
    }
    if is_main_process():
        write_json(out, result, indent=1)
        runner.logger.info(f"results: {out}")
    return result


def collect_result(runner: Runner, metrics: dict[str, Any]) -> dict[str, Any]:
    """Tables and facts of a runner that has just been tested."""
    evaluator: Evaluator = runner.test_loop.evaluator
    tables = [metric.table for metric in evaluator.metrics if isinstance(getattr(metric, "table", None), ResultTable)]
    return {
        "head": head_identity(runner),
        "tables": [table.to_dict() for table in tables],
        "metrics": {key: float(value) for key, value in metrics.items() if isinstance(value, (int, float))},
    }
