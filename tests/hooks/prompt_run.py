"""A host whose prompt has names and an identity, and real mmengine runs of it: for the hooks that watch a prompt."""

import itertools
import logging
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

_COUNT = itertools.count()


class NamedPrompt(nn.Module):
    def __init__(self, length: int = 4, **facts: Any) -> None:
        super().__init__()
        self.context = nn.Parameter(torch.zeros(length))
        self.vocabulary: tuple[str, ...] = ()
        self.facts = {"type": "NamedPrompt", "weights_hash": "0" * 64, "length": length, **facts}

    def prompt_parameters(self) -> dict[str, nn.Parameter]:
        return {"context": self.context}

    def identity(self) -> dict[str, Any]:
        return dict(self.facts)

    def check_evaluated(self, names: Any, novel: Any = ()) -> None:
        if "secret" in names:
            raise ValueError("secret must not be evaluated")

    def displacement(self) -> float:
        return self.context.detach().norm().item()


class Host(BaseModel):
    """Notes (mode, vocabulary) of every call; gives the losses of ``bad`` by iteration of training, counted from 1."""

    def __init__(self, prompt: nn.Module | None = None, bad: dict[int, dict[str, float]] | None = None) -> None:
        super().__init__()
        self.prompt = prompt or NamedPrompt()
        self.host = nn.Linear(3, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.bad = bad or {}
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.changes: list[tuple[str, ...]] = []

    def set_vocabulary(self, names: Any) -> None:
        self.prompt.vocabulary = tuple(names)
        self.changes.append(tuple(names))

    def forward(self, inputs: Tensor, mode: str = "tensor") -> Any:
        self.calls.append((mode, self.prompt.vocabulary))
        if mode != "loss":
            return [{"score": 1.0} for _ in inputs]
        base = self.host(inputs).square().mean() + (self.prompt.context - 1).square().sum()
        losses = {"loss_cls": base, "loss_nfl": [base, base], "acc": torch.tensor(90.0)}
        factors = self.bad.get(sum(mode == "loss" for mode, _ in self.calls), {})
        for name, factor in factors.items():
            losses[name] = [base, base * factor] if name == "loss_nfl" else losses[name] * factor
        return losses


class NamedData(torch.utils.data.Dataset):
    def __init__(self, classes: tuple[str, ...] | None, length: int = 1000) -> None:
        self.metainfo = {} if classes is None else {"classes": classes}
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": torch.full((3,), float(index % 5))}


class Counted(BaseMetric):
    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += data_samples

    def compute_metrics(self, results: list) -> dict[str, float]:
        return {"count": float(len(results))}


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def loader(dataset: Any, infinite: bool = False) -> dict[str, Any]:
    sampler = {"type": "InfiniteSampler" if infinite else "DefaultSampler", "shuffle": False}
    return {
        "dataset": dataset,
        "batch_size": 2,
        "sampler": sampler,
        "collate_fn": {"type": "default_collate"},
        "num_workers": 0,
    }


def make_runner(
    folder: Path,
    hook: Hook,
    model: Host | None = None,
    *,
    train: Any = None,
    test: Any = None,
    iters: int = 6,
    val_interval: int = 100,
    save_every: int = -1,
    **kwargs: Any,
) -> tuple[Runner, Lines]:
    """A Runner with one hook, and what it logs; ``test`` serves as validation data too."""
    name = f"run{next(_COUNT)}"
    if train is None and test is None:
        train = NamedData(("cat", "dog"))
    if train is not None:
        kwargs |= {
            "train_dataloader": loader(train, infinite=True),
            "train_cfg": {"by_epoch": False, "max_iters": iters, "val_interval": val_interval},
            "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}},
        }
    if test is not None:
        for stage in ("val", "test"):
            evaluator = Evaluator(Counted(prefix="toy"))
            kwargs |= {f"{stage}_dataloader": loader(test), f"{stage}_cfg": {}, f"{stage}_evaluator": evaluator}
    checkpoint = {"type": "CheckpointHook", "by_epoch": False, "interval": save_every, "save_last": save_every > 0}
    with mock.patch("mmengine.visualization.Visualizer._initialize_fig", return_value=[mock.MagicMock()] * 3):  # slow
        runner = Runner(
            model=model or Host(),
            work_dir=str(folder / name),
            default_hooks={"logger": None, "timer": None, "param_scheduler": None, "checkpoint": checkpoint},
            custom_hooks=[hook],
            experiment_name=f"{folder.name}{name}",
            default_scope="mmengine",
            **kwargs,
        )
    lines = Lines()
    runner.logger.addHandler(lines)
    return runner, lines
