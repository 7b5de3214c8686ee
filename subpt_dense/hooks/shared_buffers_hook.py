"""All processes validate one model: the running statistics of the first one."""

from mmengine.dist import broadcast, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from subpt_dense.hooks.host import host_of
from subpt_dense.registry import HOOKS


@HOOKS.register_module()
class SharedBuffersHook(Hook):
    """Gives every process the buffers of the first one before a validation.

    Gradients keep the parameters of all processes equal, but the running statistics of BatchNorm follow each process's
    own images. Without this hook the parts of a validation would be scored by different models, none but the first of
    which is in the checkpoint. The first process's buffers do not change: training goes on as without the hook, and
    its checkpoint tested alone gives the score of the validation. (mmengine's ``SyncBuffersHook`` averages instead,
    after the checkpoint has been written.)
    """

    priority = "VERY_HIGH"

    def before_val(self, runner: Runner) -> None:
        """Share them."""
        if get_world_size() > 1:
            for buffer in host_of(runner.model).buffers():
                broadcast(buffer)
