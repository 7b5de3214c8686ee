"""A config file and the hosts' command-line flags, made one config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint


def load_config(
    path: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    work_dir: str | None = None,
    launcher: str = "none",
    resume: bool | str = False,
    amp: bool = False,
    auto_scale_lr: bool = False,
    pretty: bool = True,
) -> Config:
    """The config to run.

    Args:
        path: Config file.
        options: Overrides, ``{"model.prompt.length": 8}``.
        work_dir: Where to write; by default ``work_dirs/<name of the config file>``.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        resume: True for the latest checkpoint in the work dir, or the path of one.
        amp: Mixed precision with dynamic loss scaling.
        auto_scale_lr: Scale the learning rate to the number of GPUs, by the config's ``auto_scale_lr.base_batch_size``.
        pretty: Lay out the copies of the config that a run writes and logs, which takes a second or two.

    Raises:
        FileNotFoundError: If the config or the checkpoint to resume does not exist.
        ValueError: If an option names the prompt outside the model, ``amp`` is asked for without a GPU, or
            ``auto_scale_lr`` of a config that does not state its batch size.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"The config must be an existing file, such as configs/ovd_toy_subpt_nfl.py. Got {str(path)!r}."
        )
    cfg = Config.fromfile(path)
    object.__setattr__(cfg, "_format_python_code", pretty)  # mmengine 0.10 loses `fromfile`'s argument on text configs
    cfg.launcher = launcher
    lost = [key for key in options or () if key.split(".")[0] == "prompt"]
    if lost:
        raise ValueError(
            f"`--cfg-options` must name the model's prompt, model.{lost[0]}. Got {lost[0]}, which nothing reads."
        )
    if options:
        cfg.merge_from_dict(dict(options))
    cfg.work_dir = work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(path).stem)
    if amp:
        if not torch.cuda.is_available():
            raise ValueError(
                "`--amp` needs a CUDA device: mmengine's AmpOptimWrapper refuses CPUs. Run without it here."
            )
        cfg.optim_wrapper.type = "mmengine.AmpOptimWrapper"
        cfg.optim_wrapper.loss_scale = "dynamic"
    if auto_scale_lr:
        if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
            raise ValueError(
                f"`--auto-scale-lr` needs `auto_scale_lr.base_batch_size` in the config. {Path(path).name} has none."
            )
        cfg.auto_scale_lr.enable = True
    if resume:
        cfg.resume = True
        cfg.load_from = resume if isinstance(resume, str) else None
        if resume is True and find_latest_checkpoint(cfg.work_dir) is None:
            raise FileNotFoundError(
                f"`--resume` needs a checkpoint in the work dir. {cfg.work_dir} has none: start without it."
            )
        if isinstance(resume, str) and not Path(resume).is_file():
            raise FileNotFoundError(
                f"`--resume` must name an existing checkpoint, or none for the latest one. Got {resume!r}."
            )
    return cfg
