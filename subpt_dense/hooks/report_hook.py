"""Says what is learned before training, and how far the context has moved after it."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from subpt_dense.hooks.host import host_of
from subpt_dense.registry import HOOKS


@HOOKS.register_module()
class PromptReportHook(Hook):
    """Logs the prompt head, trainable and total parameters, and the context's distance from its start."""

    def before_train(self, runner: Runner) -> None:
        """The head and the counts."""
        model = host_of(runner.model)
        facts = ", ".join(f"{key}={value}" for key, value in model.prompt.identity().items() if key != "weights_hash")
        runner.logger.info(f"prompt head: {facts}")
        total = list(model.parameters())
        learned = list(model.prompt.prompt_parameters().values())
        runner.logger.info(
            f"parameters: {_count([p for p in total if p.requires_grad]):,} trainable of {_count(total):,}, "
            f"{_count(learned):,} of them in the prompt"
        )

    def after_val(self, runner: Runner) -> None:
        """Distance from the start, in training's validations."""
        self._log_displacement(runner)

    def after_train(self, runner: Runner) -> None:
        """Distance from the start, at the end."""
        self._log_displacement(runner)

    def _log_displacement(self, runner: Runner) -> None:
        prompt = host_of(runner.model).prompt
        if hasattr(prompt, "displacement"):
            runner.logger.info(f"context: {prompt.displacement():.4f} (L2) from its start")


def _count(parameters: list[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)
