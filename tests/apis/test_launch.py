"""Who meets through gloo, who through mmengine, and who is sent away."""

from typing import Any
from unittest import mock

import pytest
from mmengine.config import Config
from torch import nn

from subpt_dense.apis.launch import is_first_process, prepare_launch, prepare_model
from subpt_dense.apis.shared_norm import SharedBatchNorm2d

WRAPPER = {"type": "mmengine.MMDistributedDataParallel", "device_ids": None}
OWN = {"type": "mmengine.MMDistributedDataParallel", "device_ids": None, "static_graph": True}


@pytest.mark.parametrize(
    ("launcher", "cuda", "given", "group", "wrapper"),
    [
        ("none", False, None, None, None),
        ("pytorch", False, None, "gloo", WRAPPER),
        ("pytorch", False, OWN, "gloo", OWN),
        ("pytorch", True, None, None, None),
        ("slurm", True, None, None, None),
    ],
)
def test_processes_on_cpus_meet_through_gloo(
    launcher: str, cuda: bool, given: Any, group: str | None, wrapper: Any
) -> None:
    cfg = Config({"launcher": launcher} | ({} if given is None else {"model_wrapper_cfg": given}))
    with (
        mock.patch("torch.cuda.is_available", return_value=cuda),
        mock.patch("torch.distributed.init_process_group") as start,
    ):
        prepare_launch(cfg)
    assert [call.args for call in start.call_args_list] == ([] if group is None else [(group,)])
    assert cfg.get("model_wrapper_cfg") == wrapper


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"RANK": "0"}, True),
        ({"RANK": "1"}, False),
        ({"SLURM_PROCID": "2"}, False),
        ({"RANK": "0", "SLURM_PROCID": "1"}, True),
    ],
)
def test_the_first_process_is_known_before_they_meet(
    variables: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


def test_slurm_without_devices_is_refused() -> None:
    with (
        mock.patch("torch.cuda.is_available", return_value=False),
        pytest.raises(ValueError, match=r"`--launcher slurm` needs a CUDA device.*tools/dist_train.sh"),
    ):
        prepare_launch(Config({"launcher": "slurm"}))


@pytest.mark.parametrize(("processes", "cuda", "shared"), [(2, False, True), (2, True, False), (1, False, False)])
def test_several_processes_on_cpus_share_their_norms(processes: int, cuda: bool, shared: bool) -> None:
    runner = mock.Mock(model=nn.Sequential(nn.BatchNorm2d(3)))
    with (
        mock.patch("torch.cuda.is_available", return_value=cuda),
        mock.patch("subpt_dense.apis.launch.get_world_size", return_value=processes),
    ):
        prepare_model(runner)
    assert isinstance(runner.model[0], SharedBatchNorm2d) == shared == runner.logger.info.called
