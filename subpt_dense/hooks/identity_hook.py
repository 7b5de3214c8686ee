"""A checkpoint knows which prompt head wrote it, and another head refuses it."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from subpt_dense.hooks.conflict_hook import ConflictHook
from subpt_dense.hooks.host import host_of, in_training
from subpt_dense.hooks.subspace_hook import SubspaceHook
from subpt_dense.registry import HOOKS

KEY = "prompt_identity"
_INCIDENTAL = ("weights", "precision", "file")


@HOOKS.register_module()
class PromptIdentityHook(Hook):
    """Stores the prompt head's identity in checkpoints and compares it on loading.

    Where the weights lay and how precisely the tower computes do not matter, their hash does. A checkpoint that is
    tested must also be complete: mmengine would go on with random weights for what it lacks.

    Args:
        allow_other: Load what another head has trained, with a warning: the detector of one head under the rows of
            another.

    Raises:
        ValueError: From loading, if the checkpoint's head differs from the model's (both are named), or a checkpoint to
            be tested lacks weights of the model.
    """

    def __init__(self, allow_other: bool = False) -> None:
        self.allow_other = allow_other

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds the identity."""
        checkpoint[KEY] = head_identity(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compares it, and what is there with what is needed."""
        self._compare(runner, checkpoint)
        if not self.allow_other and not in_training(runner):
            _check_complete(runner, checkpoint)

    def _compare(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        found, wanted = checkpoint.get(KEY), head_identity(runner)
        if found is None:
            runner.logger.warning(
                "The checkpoint does not say which prompt head wrote it: only matching weights are taken from it."
            )
            return
        differing = [k for k in {**wanted, **found} if k not in _INCIDENTAL and found.get(k) != wanted.get(k)]
        if not differing:
            return
        sides = "; ".join(f"{key}: checkpoint {found.get(key)!r}, model {wanted.get(key)!r}" for key in differing)
        if not self.allow_other:
            raise ValueError(
                f"The checkpoint must come from the prompt head of this config. Got another one: {sides}. "
                "Test it with its own config, or state `default_hooks.identity.allow_other=True` to put these rows on "
                "that detector."
            )
        runner.logger.warning(f"The checkpoint comes from another prompt head ({sides}).")


def _check_complete(runner: Runner, checkpoint: dict[str, Any]) -> None:
    found = {key.removeprefix("module.") for key in checkpoint.get("state_dict", checkpoint)}
    missing = [key for key in host_of(runner.model).state_dict() if key not in found]
    if missing:
        raise ValueError(
            f"The checkpoint must hold every weight of the model to be tested. Missing are {len(missing)}, such as "
            f"{', '.join(missing[:3])}. Is it the checkpoint of another config?"
        )


def head_identity(runner: Runner) -> dict[str, Any]:
    """What the model's prompt head is, and the hooks that make SubPT and ProGrad of CoOp's."""
    facts = host_of(runner.model).prompt.identity()
    for name, kind in (("subspace", SubspaceHook), ("conflict", ConflictHook)):
        facts[name] = next((hook.settings for hook in runner.hooks if isinstance(hook, kind)), None)
    return facts
