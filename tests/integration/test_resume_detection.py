"""The toy detectors, stopped and resumed: the weights of a run that had not stopped, to the bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from subpt_dense.apis import train
from tests.integration.conftest import MakeConfig

#: Six iterations, validated after the third and the last; the pictures are shuffled and flipped, the boxes sampled.
SIX: dict[str, Any] = {
    "train_cfg.max_iters": 6,
    "train_cfg.val_interval": 3,
    "default_hooks.checkpoint.interval": 1,
    "default_hooks.checkpoint.max_keep_ckpts": -1,
}


def tensors(node: Any, key: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in nested dicts and lists."""
    if isinstance(node, torch.Tensor):
        return {key: node}
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    return {name: value for k, v in items for name, value in tensors(v, f"{key}.{k}").items()}


def learned(path: Path) -> dict[str, torch.Tensor]:
    """Weights, running statistics, the optimizer's state, SubPT's basis and every random state of a checkpoint."""
    state = torch.load(path, weights_only=True)
    kept = {key: state[key] for key in ("state_dict", "optimizer", "run_state")}
    return tensors(kept | {"subspace": state.get("subspace", {})})


@pytest.mark.parametrize(
    ("head", "stops"),
    [("coop", (3,)), ("subpt", (2, 3, 5))],  # SubPT: exploring, at the turn, projecting
)
def test_a_stop_changes_nothing(head: str, stops: tuple[int, ...], toy_config: MakeConfig, tmp_path: Path) -> None:
    options = SIX | ({"custom_hooks.0.explore": 3} if head == "subpt" else {})
    train(toy_config(head, options, work_dir="whole"))
    expected = learned(tmp_path / "whole" / "iter_6.pth")
    assert len(expected) > 100 and any("exp_avg" in name for name in expected)
    for stop in stops:
        checkpoint = str(tmp_path / "whole" / f"iter_{stop}.pth")
        torch.manual_seed(stop)  # the resumed process knows nothing
        runner = train(toy_config(head, options, work_dir=f"part{stop}", resume=checkpoint))
        assert runner.iter == 6
        found = learned(tmp_path / f"part{stop}" / "iter_6.pth")
        assert {*found} == {*expected}
        assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_the_random_numbers_matter(toy_config: MakeConfig, tmp_path: Path) -> None:
    """The comparison above can fail: without their state the resumed run samples other boxes."""
    for work_dir, resume in (("whole", False), ("part", str(tmp_path / "whole" / "iter_3.pth"))):
        cfg = toy_config("coop", SIX, work_dir=work_dir, resume=resume)
        del cfg.default_hooks["run_state"]
        train(cfg)
    whole, part = (torch.load(tmp_path / run / "iter_6.pth", weights_only=True) for run in ("whole", "part"))
    assert not torch.equal(whole["state_dict"]["prompt.context"], part["state_dict"]["prompt.context"])
