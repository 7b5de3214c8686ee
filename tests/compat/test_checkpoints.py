"""mmengine's checkpoints load with ``weights_only=True``; a file that reaches for more does not."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from subpt_dense.compat import allow_mmengine_checkpoints


def test_history_buffer_comes_back_with_its_statistics(tmp_path: Path) -> None:
    allow_mmengine_checkpoints()
    buffer = HistoryBuffer()
    buffer.update(1.5)
    buffer.update(2.5)
    torch.save({"loss": buffer}, tmp_path / "a.pth")
    loaded = torch.load(tmp_path / "a.pth", weights_only=True)["loss"]
    assert loaded.data[0].tolist() == [1.5, 2.5]
    assert {name: float(loaded.statistics(name)) for name in ("min", "max", "current", "mean")} == {
        "min": 1.5,
        "max": 2.5,
        "current": 2.5,
        "mean": 2.0,
    }


def test_message_hub_comes_back(tmp_path: Path) -> None:
    hub = MessageHub("checkpoints")
    hub.update_scalar("train/loss", np.float64(0.25))
    hub.update_info("counts", np.arange(3))
    torch.save(hub.state_dict(), tmp_path / "hub.pth")
    other = MessageHub("other")
    other.load_state_dict(torch.load(tmp_path / "hub.pth", weights_only=True))
    assert float(other.get_scalar("train/loss").current()) == 0.25
    assert other.get_info("counts").tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64", "uint8", "bool"])
def test_numpy_values_load_from_either_numpy(dtype: str, tmp_path: Path) -> None:
    value = {"array": np.ones((2, 3), dtype), "scalar": np.ones((), dtype)[()]}
    torch.save(value, tmp_path / "two.pth")
    with zipfile.ZipFile(tmp_path / "two.pth") as source, zipfile.ZipFile(tmp_path / "one.pth", "w") as target:
        for entry in source.infolist():  # as numpy 1.x would have spelled it
            target.writestr(entry.filename, source.read(entry).replace(b"numpy._core.", b"numpy.core."))
    for name in ("one.pth", "two.pth"):
        loaded = torch.load(tmp_path / name, weights_only=True)
        assert loaded["array"].dtype == loaded["scalar"].dtype == np.dtype(dtype)
        assert (loaded["array"] == value["array"]).all() and loaded["scalar"] == value["scalar"]


class Reach:
    """Pickles as ``getattr(owner, name)``."""

    def __init__(self, owner: Any, name: str) -> None:
        self.lookup = (owner, name)

    def __reduce__(self) -> tuple:
        return getattr, self.lookup


@pytest.mark.parametrize(
    ("owner", "name"), [(HistoryBuffer, "__init__"), (HistoryBuffer, "update"), (np.ndarray, "tofile")]
)
def test_getattr_serves_the_four_statistics_only(owner: type, name: str, tmp_path: Path) -> None:
    torch.save({"x": Reach(owner, name)}, tmp_path / "bad.pth")
    with pytest.raises(pickle.UnpicklingError, match=f"Got `{name}` of"):
        torch.load(tmp_path / "bad.pth", weights_only=True)


def test_other_types_stay_refused(tmp_path: Path) -> None:
    torch.save({"x": os.getcwd}, tmp_path / "bad.pth")
    with pytest.raises(pickle.UnpicklingError, match="getcwd"):
        torch.load(tmp_path / "bad.pth", weights_only=True)


class Line(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2, 1)

    def forward(self, inputs: list[Tensor], mode: str = "tensor") -> dict[str, Tensor]:
        return {"loss": self.line(torch.stack(inputs)).square().mean()}


def test_a_runner_checkpoint_loads(tmp_path: Path) -> None:
    runner = Runner(
        model=Line(),
        work_dir=str(tmp_path),
        train_dataloader={
            "dataset": [{"inputs": torch.ones(2)}] * 4,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "batch_size": 2,
            "num_workers": 0,
        },
        train_cfg={"by_epoch": True, "max_epochs": 2},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.1}},
        param_scheduler={"type": "MultiStepLR", "milestones": [1]},
        default_hooks={"logger": {"type": "LoggerHook", "interval": 1}},
        custom_hooks=[{"type": "EMAHook"}],
        experiment_name="compat",
        log_level="ERROR",
    )
    runner.train()
    loaded = torch.load(tmp_path / "epoch_2.pth", weights_only=True)
    assert loaded["meta"]["epoch"] == 2
    assert isinstance(loaded["message_hub"]["log_scalars"]["train/loss"], HistoryBuffer)
