"""A toy host with a prompt, and real mmengine runs of it on a CPU. Shared by the tests of the hooks."""

import itertools
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from subpt_dense.hooks import SubspaceHook
from subpt_dense.subspace import Subspace, flatten

LENGTH = 64  # P, two tensors: 6 x 8 and 16
OPTIMIZERS = {
    "sgd": {"type": "SGD", "lr": 0.02, "momentum": 0.9},
    "sgd_decay": {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 0.01},
    "adamw": {"type": "AdamW", "lr": 0.01, "weight_decay": 0.1},
}
_COUNT = itertools.count()


class ToyPrompt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.context = nn.Parameter(torch.randn(6, 8) * 0.1)
        self.shift = nn.Parameter(torch.randn(16) * 0.1)

    def prompt_parameters(self) -> dict[str, nn.Parameter]:
        return {"context": self.context, "shift": self.shift}


class ToyModel(BaseModel):
    """A prompt, a host that trains or not, and a loss whose gradients point everywhere; inf in the poisoned calls."""

    def __init__(self, train_host: bool = True, poisoned: tuple[int, ...] = ()) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.prompt = ToyPrompt()
        self.host = nn.Linear(LENGTH, 1).requires_grad_(train_host)
        self.poisoned, self.calls = poisoned, 0

    def forward(self, inputs: Tensor, target: Tensor, mode: str = "loss") -> dict[str, Tensor]:
        theta = torch.cat([value.reshape(-1) for value in self.prompt.prompt_parameters().values()])
        loss = (self.host(torch.tanh(inputs * theta)).squeeze(1) - target).square().mean()
        self.calls += 1
        return {"loss": loss * torch.inf if self.calls in self.poisoned else loss}


class ToyData(torch.utils.data.Dataset):
    """Sample i is that of i modulo 4; noisy ones differ at every reading, by all three kinds of random numbers."""

    def __init__(self, length: int, noisy: bool = False) -> None:
        self.noisy = noisy
        generator = torch.Generator().manual_seed(7)
        self.inputs = torch.randn(4, LENGTH, generator=generator)
        self.targets = torch.randn(4, generator=generator)
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        noise = torch.randn(LENGTH) * random.random() * np.random.rand() if self.noisy else 0
        return {"inputs": self.inputs[index % 4] + noise, "target": self.targets[index % 4]}


class Recorder(Hook):
    """Keeps the prompt, the host and how many prompt tensors have optimizer state, after every iteration."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self.prompts: list[Tensor] = []
        self.hosts: list[Tensor] = []
        self.states: list[int] = []

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.prompts.append(flatten(model.prompt.prompt_parameters().values()).cpu())
        self.hosts.append(flatten(model.host.parameters()).cpu())
        state = runner.optim_wrapper.optimizer.state
        self.states.append(sum(parameter in state for parameter in model.prompt.parameters()))


class FixedHook(SubspaceHook):
    """Keeps the snapshots it was asked to fit, and projects onto a given basis if there is one."""

    basis: Tensor | None = None
    seen: Tensor | None = None

    def _fit(self, snapshots: Tensor) -> Subspace:
        self.seen = snapshots
        if self.basis is None:
            return super()._fit(snapshots)
        return Subspace(self.basis, torch.full((len(self.basis),), 1 / len(self.basis)))


class ScaledWrapper(OptimWrapper):
    """AmpOptimWrapper's steps on a CPU: scale, backward, unscale, skip on inf."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: Any) -> None:
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()


#: `train(hook, iters, *, optimizer, model, wrapper, loop, batch, save_every, **runner)`, a fixture bound to a folder.
Train = Callable[..., tuple[Recorder, Runner]]


def train_toy(
    folder: Path,
    hook: Hook | list[Hook] | None,
    iters: int = 12,
    *,
    optimizer: str = "sgd",
    model: ToyModel | None = None,
    wrapper: OptimWrapper | dict | None = None,
    loop: dict | None = None,
    batch: int = 1,
    save_every: int = -1,
    noisy: bool = False,
    workers: int = 0,
    persistent: bool = False,
    **kwargs: Any,
) -> tuple[Recorder, Runner]:
    """Runs a toy training to its end in a new subfolder; returns what it recorded and the Runner."""
    name = f"run{next(_COUNT)}"
    hooks = [] if hook is None else hook if isinstance(hook, list) else [hook]
    recorder = Recorder()
    by_epoch = (loop or {}).get("by_epoch", "type" in (loop or {}))
    with mock.patch("mmengine.visualization.Visualizer._initialize_fig", return_value=[mock.MagicMock()] * 3):  # slow
        runner = Runner(
            model=model or ToyModel(),
            work_dir=str(folder / name),
            train_dataloader={
                "dataset": ToyData(4 if by_epoch else 100_000, noisy),
                "batch_size": batch,
                "sampler": {"type": "DefaultSampler" if by_epoch else "InfiniteSampler", "shuffle": noisy},
                "collate_fn": {"type": "default_collate"},
                "num_workers": workers,
                "persistent_workers": persistent,
            },
            train_cfg=loop or {"by_epoch": False, "max_iters": iters},
            optim_wrapper=wrapper or {"type": "OptimWrapper", "optimizer": dict(OPTIMIZERS[optimizer])},
            default_hooks={
                "logger": None,
                "timer": None,
                "sampler_seed": None if noisy else {"type": "DistSamplerSeedHook"},
                "checkpoint": {
                    "type": "CheckpointHook",
                    "by_epoch": by_epoch,
                    "interval": save_every,
                    "save_last": save_every > 0,
                },
            },
            custom_hooks=[recorder, *hooks],
            experiment_name=f"{folder.name}{name}",
            log_level="WARNING",
            **kwargs,
        )
    runner.train()
    return recorder, runner


def outside(recorder: Recorder, hook: SubspaceHook, after: int) -> float:
    """The largest share of the displacement from the rewind point that lies outside the span, after so many iterations.

    A displacement counts as at least a tenth of the prompt: float32 cannot hold a prompt finer than its own rounding.
    """
    assert hook.subspace is not None and hook.start is not None
    shares = []
    for prompt in recorder.prompts[after:]:
        move = prompt.double() - hook.start.double()
        shares.append(hook.subspace.remove(move).norm() / torch.maximum(move.norm(), 0.1 * prompt.norm()))
    return torch.stack(shares).max().item()


def random_rows(rank: int) -> Tensor:
    """Orthonormal rows ``[rank, P]`` float64."""
    generator = torch.Generator().manual_seed(5)
    return torch.linalg.qr(torch.randn(LENGTH, rank, generator=generator, dtype=torch.float64)).Q.T


def train_distributed(rank: int, folder: str, iters: int) -> None:
    """One of two processes of a gloo run: writes its trajectory ``[iters, P]`` in each mode to ``<mode><rank>.pt``."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    wrapped = {"model_wrapper_cfg": {"type": "MMDistributedDataParallel", "device_ids": None}}
    for project in ("gradient", "update"):
        hook = SubspaceHook(rank=3, explore=8, project=project)
        recorder, _ = train_toy(Path(folder), hook, iters, launcher="pytorch", cfg=wrapped)
        torch.save(torch.stack(recorder.prompts), f"{folder}/{project}{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    train_distributed(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
