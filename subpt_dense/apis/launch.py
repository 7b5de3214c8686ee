"""Several processes without CUDA devices: mmengine's launcher and its DDP wrapper take a device for granted."""

import os

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process
from mmengine.runner import Runner

from subpt_dense.apis.shared_norm import share_batch_norm


def is_first_process() -> bool:
    """Whether this process is the first of a run, before or after its processes have met; mpirun's tell only after."""
    return is_main_process() and int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def prepare_launch(cfg: Config) -> None:
    """Have a run of several torchrun processes on CPUs meet through gloo; with CUDA devices mmengine sees to it.

    Sets the wrapper of ``cfg`` to one without device ids, unless it states its own, and starts the process group.

    Raises:
        ValueError: If SLURM started this process on a node without CUDA devices.
    """
    if torch.cuda.is_available():
        return
    if cfg.get("launcher", "none") == "slurm":
        raise ValueError(
            "`--launcher slurm` needs a CUDA device for every process. Got a node without any. On CPUs use "
            "`tools/dist_train.sh CONFIG PROCESSES`, or torchrun with `--launcher pytorch`."
        )
    if cfg.get("launcher", "none") != "pytorch":
        return
    cfg.setdefault("model_wrapper_cfg", {"type": "mmengine.MMDistributedDataParallel", "device_ids": None})
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")


def prepare_model(runner: Runner) -> None:
    """Have several processes on CPUs normalise over all their pictures, so that they take the steps of one.

    With CUDA devices the host's ways hold: its pretrained backbones keep their statistics in training.
    """
    if get_world_size() > 1 and not torch.cuda.is_available():
        count = share_batch_norm(runner.model)
        if count:
            runner.logger.info(
                f"{count} BatchNorm layers normalise over the pictures of all {get_world_size()} processes"
            )
