"""The classifier on a tiny CLIP, and real mmengine runs of it on a CPU. Imports no other test: a process starts it."""

import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import open_clip
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.functional import normalize

from subpt_dense.classification import PromptedClassifier
from subpt_dense.hooks import ConflictHook
from subpt_dense.hooks.host import host_of
from subpt_dense.subspace import flatten

NAMES = ("cat", "traffic light", "dog")
KL = {"type": "subpt_dense.ZeroShotKL", "templates": "single"}
SGD = {"type": "SGD", "lr": 0.5, "momentum": 0.9, "weight_decay": 5e-4}
_COUNT = itertools.count()


class Features(torch.utils.data.Dataset):
    """Unit features with labels that have nothing to do with them: hard to learn, and against zero-shot CLIP."""

    def __init__(self, length: int = 64) -> None:
        generator = torch.Generator().manual_seed(2)
        self.inputs = normalize(torch.randn(length, 24, generator=generator), dim=1)
        self.labels = torch.randint(len(NAMES), (length,), generator=generator)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": self.inputs[index], "label": self.labels[index]}


class Steps(Hook):
    """Keeps the prompt after every iteration, and what was logged."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self.prompts: list[Tensor] = []
        self.logged: list[dict[str, float]] = []

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        self.prompts.append(flatten(host_of(runner.model).prompt.prompt_parameters().values()))
        scalars = runner.message_hub.log_scalars
        keys = ("reference", "conflict", "loss")
        self.logged.append({k: scalars[f"train/{k}"].current() for k in keys if f"train/{k}" in scalars})


def classifier(clip: Sequence[str], head: str = "ContextPrompt", **prompt: Any) -> PromptedClassifier:
    torch.manual_seed(0)
    text = {"model": clip[0], "pretrained": clip[1]}
    prompt = {"type": f"subpt_dense.{head}", "vocabulary": NAMES, "text": text, **prompt}
    if "Context" in head or "Conditional" in head:
        prompt.setdefault("length", 4)
    return PromptedClassifier(prompt=prompt, image=text)


def run(
    folder: Path,
    model: nn.Module,
    hooks: list[Hook],
    iters: int = 6,
    *,
    batch: int = 4,
    wrapper: Any = None,
    **kwargs: Any,
) -> Steps:
    name, steps = f"run{next(_COUNT)}", Steps()
    with mock.patch("mmengine.visualization.Visualizer._initialize_fig", return_value=[mock.MagicMock()] * 3):  # slow
        runner = Runner(
            model=model,
            work_dir=str(folder / name),
            train_dataloader={
                "dataset": Features(),
                "batch_size": batch,
                "sampler": {"type": "InfiniteSampler", "shuffle": False},
                "collate_fn": {"type": "default_collate"},
                "num_workers": 0,
            },
            train_cfg={"by_epoch": False, "max_iters": iters},
            optim_wrapper=wrapper or {"type": "OptimWrapper", "optimizer": dict(SGD)},
            default_hooks={"logger": None, "timer": None, "checkpoint": None, "param_scheduler": None},
            custom_hooks=[steps, *hooks],
            experiment_name=f"{folder.name}{name}",
            default_scope="mmengine",
            log_level="WARNING",
            **kwargs,
        )
    runner.train()
    return steps


def train_distributed(rank: int, folder: str, clip: Sequence[str]) -> None:
    """One of two processes of a gloo run, on half of every batch of eight."""
    torch.set_num_threads(1)
    open_clip.add_model_config(Path(clip[1]).with_suffix(".json"))
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    wrapped = {"model_wrapper_cfg": {"type": "MMDistributedDataParallel", "device_ids": None}}
    steps = run(Path(folder), classifier(clip), [ConflictHook(KL)], launcher="pytorch", cfg=wrapped)
    conflict = [logged["conflict"] for logged in steps.logged]
    torch.save({"prompts": torch.stack(steps.prompts), "conflict": conflict}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    train_distributed(int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
