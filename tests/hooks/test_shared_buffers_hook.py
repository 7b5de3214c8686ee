"""Before a validation every process has the first one's buffers."""

from types import SimpleNamespace
from unittest import mock

import torch
from torch import Tensor, nn

from subpt_dense.hooks import SharedBuffersHook


def test_every_buffer_is_the_first_process_s_and_no_parameter_is_touched() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    weights = [parameter.clone() for parameter in model.parameters()]

    def receive(buffer: Tensor) -> None:
        buffer.fill_(7)

    path = "subpt_dense.hooks.shared_buffers_hook"
    with mock.patch(f"{path}.get_world_size", return_value=2), mock.patch(f"{path}.broadcast", side_effect=receive):
        SharedBuffersHook().before_val(SimpleNamespace(model=model))
    assert all((buffer == 7).all() for buffer in model.buffers()) and len(list(model.buffers())) == 3
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def test_one_process_has_nobody_to_ask() -> None:
    with mock.patch("subpt_dense.hooks.shared_buffers_hook.broadcast") as sent:
        SharedBuffersHook().before_val(SimpleNamespace(model=nn.BatchNorm1d(3)))
    assert not sent.called
