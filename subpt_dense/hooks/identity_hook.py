"""A checkpoint knows which prompt head wrote it, and another head refuses it."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from subpt_dense.registry import HOOKS

KEY = "prompt_identity"


@HOOKS.register_module()
class PromptIdentityHook(Hook):
    """Stores the prompt head's identity in checkpoints and compares it on loading.

    Args:
        allow_other: Load what another head has trained, with a warning: the detector of one head under the rows of
            another.

    Raises:
        ValueError: From loading, if the checkpoint's head differs from the model's; both are named.
    """

    def __init__(self, allow_other: bool = False) -> None:
        self.allow_other = allow_other

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds the identity."""
        checkpoint[KEY] = _identity(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compares it."""
        found, wanted = checkpoint.get(KEY), _identity(runner)
        if found is None:
            runner.logger.warning(
                "The checkpoint does not say which prompt head wrote it: only matching weights are taken from it."
            )
            return
        differing = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
        if not differing:
            return
        sides = "; ".join(f"{key}: checkpoint {found.get(key)!r}, model {wanted.get(key)!r}" for key in differing)
        if not self.allow_other:
            raise ValueError(
                f"The checkpoint must come from the prompt head of this config. Got another one: {sides}. "
                "Test it with its own config, or state `default_hooks.identity.allow_other=True` to put these rows on that detector."
            )
        runner.logger.warning(f"The checkpoint comes from another prompt head ({sides}).")


def _identity(runner: Runner) -> dict[str, Any]:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model.prompt.identity()
