"""Several processes without CUDA devices: mmengine's launcher and its DDP wrapper take a device for granted."""

import torch
from mmengine.config import Config


def prepare_launch(cfg: Config) -> None:
    """Have a run of several torchrun processes on CPUs meet through gloo; with CUDA devices mmengine sees to it.

    Sets the wrapper of ``cfg`` to one without device ids, unless it states its own, and starts the process group.
    """
    if cfg.get("launcher", "none") != "pytorch" or torch.cuda.is_available():
        return
    cfg.setdefault("model_wrapper_cfg", {"type": "mmengine.MMDistributedDataParallel", "device_ids": None})
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
