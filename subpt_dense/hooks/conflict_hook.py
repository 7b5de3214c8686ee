"""Removes from the prompt's gradient what opposes a reference's gradient: ProGrad (K classes, P prompt numbers)."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from subpt_dense.hooks.host import host_of
from subpt_dense.hooks.learned_prompt import find_optimizer, find_prompt_parameters
from subpt_dense.prompts import TowerPrompt
from subpt_dense.prompts.held import Held
from subpt_dense.registry import HOOKS, MODELS
from subpt_dense.subspace import Subspace, flatten, write_flat


@HOOKS.register_module()
class ConflictHook(Hook):
    """Lets no step of the prompt work against what a reference asks for (ProGrad, arXiv 2205.14865).

    With ``g`` the prompt's gradient and ``r`` that of the reference, ``g - weight * (g.r / r.r) r`` takes the place of
    ``g`` where ``g.r < 0``. Of the prompt's tensors both are the concatenation.

    The reference compares the logits of every module that classifies with the prompt's rows with what the module gives
    with frozen rows, for the same inputs: no host knows of it, nothing is added to its loss. That costs a second
    backward pass through the text encoder. ``r`` is summed for as long as ``g`` is (gradient accumulation), averaged
    over processes, and applied in the optimizer's own step hook: after AMP unscaling and clipping, not at all in a step
    that AMP skips, and before a :class:`SubspaceHook`, whose projection has the last word.

    Logged are ``reference``, the reference's value, and ``conflict``, 1 where a step's gradient was changed, else 0.

    Args:
        reference: Config of a module such as :class:`subpt_dense.losses.ZeroShotKL`, or the module: ``rows(tower,
            vocabulary)`` gives the frozen rows ``[K, D]``, ``forward(logits, frozen_logits)`` a scalar.
        weight: λ in [0, 1], the share of the opposing part that is removed. With 0 a run is one without the hook, to
            the bit.

    Raises:
        ValueError: If ``weight`` is out of range; before training if the model has no learned prompt, no text tower or
            nothing that classifies with its rows, or the optimizer does not train the prompt.
        FloatingPointError: From training, if the reference's gradient is not finite.
        RuntimeError: From training, if a step comes in which nothing has been classified with the prompt's rows.
    """

    priority = "ABOVE_NORMAL"  # before SubspaceHook: step hooks run in the order in which they are registered

    def __init__(self, reference: Mapping[str, Any] | nn.Module, weight: float = 1.0) -> None:
        if not 0 <= weight <= 1:
            raise ValueError(f"`weight` of ConflictHook must be in [0, 1]. Got {weight}.")
        self.reference: Any = MODELS.build(reference) if isinstance(reference, Mapping) else reference
        self.weight = weight
        self._prompt: Any = None
        self._parameters: dict[str, nn.Parameter] = {}
        self._handles: list[Any] = []
        self._frozen_rows: Held[Tensor] = Held()
        self._gradient: Tensor | None = None  # r so far, [P]
        self._log: dict[str, Tensor] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, as results name them."""
        return {"reference": self.reference.summary(), "weight": self.weight}

    def before_train(self, runner: Runner) -> None:
        """Finds the prompt, what classifies with its rows, and the optimizer."""
        self._detach()
        self._parameters = find_prompt_parameters(runner.model, "ConflictHook")
        optimizer = find_optimizer(runner.optim_wrapper, self._parameters, "ConflictHook")
        host = host_of(runner.model)
        self._prompt = host.prompt
        if not isinstance(self._prompt, TowerPrompt):
            kind = type(self._prompt).__name__
            raise ValueError(f"ConflictHook needs a prompt head on a text tower, which makes frozen rows. Got {kind}.")
        takers = [module for module in host.modules() if callable(getattr(type(module), "set_rows", None))]
        if not takers:
            kind = type(host).__name__
            raise ValueError(f"ConflictHook needs a model that classifies with rows. Got {kind} without `set_rows`.")
        if self.weight:
            self._handles = [taker.register_forward_hook(self._after_forward, with_kwargs=True) for taker in takers]
            self._handles.append(optimizer.register_step_pre_hook(self._before_step))

    def after_train(self, runner: Runner) -> None:
        """Lets go of the model and the optimizer."""
        self._detach()

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._gradient, self._log = [], None, {}
        self._frozen_rows.take()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Where the prompt's gradient begins anew (after a step, a skipped one, a rewind), so does the reference's."""
        if all(parameter.grad is None for parameter in self._parameters.values()):
            self._gradient = None
        self._log = {}

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Logs."""
        for name, value in self._log.items():
            runner.message_hub.update_scalar(f"train/{name}", value.item())

    def _after_forward(self, taker: Any, inputs: tuple, options: dict[str, Any], logits: Tensor) -> None:
        """Adds the reference's gradient for these logits, while their graph is there."""
        if not (taker.training and logits.requires_grad):
            return
        parameters = list(self._parameters.values())
        learned = taker.rows
        taker.set_rows(self._frozen())
        try:
            with torch.no_grad():
                frozen = taker.forward(*inputs, **options)  # not taker(...): this hook would see it
        finally:
            taker.set_rows(learned)
        with torch.autocast(logits.device.type, enabled=False):
            value = self.reference(logits, frozen)
            found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        gradient = flatten(found).float()
        self._gradient = gradient if self._gradient is None else self._gradient + gradient
        self._log["reference"] = self._log.get("reference", 0) + value.detach()

    def _frozen(self) -> Tensor:
        names, device = self._prompt.vocabulary, next(iter(self._parameters.values())).device
        rows = self._frozen_rows.get((names, device))
        if rows is None:
            rows = self._frozen_rows.put(self.reference.rows(self._prompt.tower(device), names), (names, device))
        return rows

    @torch.no_grad()
    def _before_step(self, *_: Any) -> None:
        reference, self._gradient = self._gradient, None
        if reference is None:
            raise RuntimeError(
                "ConflictHook needs logits of the prompt's rows in every step. Got none: nothing that takes rows was "
                "called in this step."
            )
        all_reduce(reference, "mean")
        if reference.device.type == "mps":  # MPS knows no float64
            reference = reference.cpu()
        length = reference.double().norm()
        if not torch.isfinite(length):
            raise FloatingPointError(
                f"The gradient of {type(self.reference).__name__} in ConflictHook must be finite. Got length "
                f"{length.item()}. Resume from the last checkpoint with a smaller learning rate."
            )
        parameters = self._parameters.values()
        if length == 0 or all(parameter.grad is None for parameter in parameters):
            return
        for parameter in parameters:
            if parameter.grad is None:  # a missing gradient is zero, but what is removed need not be
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        before = flatten(gradients)
        direction = Subspace((reference.double() / length)[None], torch.ones(1, device=reference.device))
        after = direction.remove_conflict(before, reference)
        write_flat(after if self.weight == 1 else torch.lerp(before, after, self.weight), gradients)
        self._log["conflict"] = (after != before).any().float()
