"""Finds what a model's prompt head learns, and the optimizer that trains it: shared by the hooks."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from subpt_dense.hooks.host import host_of


def find_prompt_parameters(model: nn.Module, owner: str) -> dict[str, nn.Parameter]:
    """The learned parameters of ``model.prompt``, by name, seen through a DDP-like wrapper.

    Args:
        model: A host model or its wrapper; the host has a prompt head as ``prompt``.
        owner: Who asks, for the error messages.

    Raises:
        ValueError: If there is no prompt head, it learns nothing, a parameter is frozen, or FSDP shards the model.
    """
    if isinstance(model, FullyShardedDataParallel):
        raise ValueError(f"{owner} needs whole prompt parameters on every rank. Got an FSDP model: use DDP.")
    host = host_of(model)
    prompt: Any = getattr(host, "prompt", None)
    if not callable(getattr(prompt, "prompt_parameters", None)):
        raise ValueError(
            f"{owner} needs a model whose `prompt` is a prompt head with `prompt_parameters()`. "
            f"Got {type(host).__name__} with `prompt` {type(prompt).__name__}."
        )
    parameters = dict(prompt.prompt_parameters())
    if not parameters:
        raise ValueError(
            f"{owner} found nothing to adapt: {type(prompt).__name__} has no learned parameters. "
            "Use a head with a learned context, or drop the hook."
        )
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    if frozen:
        raise ValueError(f"Prompt parameters of {owner} must require gradients. Frozen: {', '.join(frozen)}.")
    return parameters


def find_optimizer(wrapper: Any, parameters: Mapping[str, nn.Parameter], owner: str) -> torch.optim.Optimizer:
    """The one torch optimizer of an ``OptimWrapper``, once it is known to train every prompt parameter.

    Raises:
        ValueError: If the wrapper holds several optimizers or another kind, or a parameter is not in the optimizer.
    """
    if isinstance(wrapper, OptimWrapperDict) or not isinstance(wrapper, OptimWrapper):
        raise ValueError(f"{owner} needs one OptimWrapper around one optimizer. Got {type(wrapper).__name__}.")
    trained = {id(parameter) for group in wrapper.optimizer.param_groups for parameter in group["params"]}
    missing = [name for name, parameter in parameters.items() if id(parameter) not in trained]
    if missing:
        raise ValueError(f"Prompt parameters of {owner} must be in the optimizer. Missing: {', '.join(missing)}.")
    return wrapper.optimizer


def why_gradients_leak(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> str | None:
    """Why a step leaves the span of its projected gradients, or None for SGD without weight decay, which does not."""
    if not isinstance(optimizer, torch.optim.SGD):
        return f"{type(optimizer).__name__} rescales them"
    learned = {id(parameter) for parameter in parameters.values()}
    decays = [g["weight_decay"] for g in optimizer.param_groups if any(id(p) in learned for p in g["params"])]
    return f"weight decay {max(decays):g} adds to them" if any(decays) else None
