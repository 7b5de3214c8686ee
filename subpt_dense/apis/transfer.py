"""A learned prompt on data it was not learned on: domain generalisation and cross-data-set evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from subpt_dense.apis.run import test
from subpt_dense.datasets import require_files
from subpt_dense.prompts.prompt_file import load_prompt


def transfer(
    prompt_file: str | Path, configs: Sequence[Config], work_dir: str | Path, *, as_heldout: bool = False
) -> dict[str, dict[str, Any]]:
    """Test one prompt file with several configs, in place of their own prompts, on all classes; nothing is trained.

    Args:
        prompt_file: A file of :func:`subpt_dense.prompts.save_prompt`.
        configs: Of classification sets, such as ``configs/cls_imagenetv2_template.py``; each names its CLIP, which must
            be the file's.
        work_dir: Each config writes into a folder of its name below it.
        as_heldout: Take a prompt whose generic anchors held names of these sets, and have the results say so. An NFL
            prompt's generic names leave out those of its own data set only.

    Returns:
        By config name what :func:`subpt_dense.apis.test` returns.

    Raises:
        FileNotFoundError: Before anything is tested, naming all that is missing for a config.
        ValueError: If the prompt file is damaged or of another backbone, or two configs have one name.
    """
    load_prompt(prompt_file)
    names = [Path(cfg.filename or f"config{i}").stem for i, cfg in enumerate(configs)]
    if len(set(names)) < len(names):
        raise ValueError(f"`configs` of transfer must have names of their own. Got {', '.join(names)}.")
    for cfg in configs:
        require_files(cfg, stages=("test",))
    results = {}
    for name, cfg in zip(names, configs, strict=True):
        cfg.model.prompt = {"type": "subpt_dense.LearnedPrompt", "file": str(prompt_file), "as_heldout": as_heldout}
        cfg.work_dir = str(Path(work_dir) / name)
        cfg.experiment_name = f"transfer_{name}"
        cfg.train_cfg = cfg.train_dataloader = cfg.optim_wrapper = cfg.param_scheduler = None
        cfg.custom_hooks = []
        dataset = cfg.test_dataloader.dataset
        dataset.get("dataset", dataset).split = "whole"  # every class is new to the prompt, or none is
        results[name] = test(cfg)
    return results
