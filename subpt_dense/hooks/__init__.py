"""What happens during training; these hooks know prompts only through their protocol."""

from subpt_dense.hooks.conflict_hook import ConflictHook
from subpt_dense.hooks.finite_loss_hook import FiniteLossHook
from subpt_dense.hooks.identity_hook import PromptIdentityHook, head_identity
from subpt_dense.hooks.prompt_file_hook import PromptFileHook
from subpt_dense.hooks.report_hook import PromptReportHook
from subpt_dense.hooks.rewinding_loop import RewindingTrainLoop
from subpt_dense.hooks.run_state_hook import RunStateHook
from subpt_dense.hooks.shared_buffers_hook import SharedBuffersHook
from subpt_dense.hooks.subspace_hook import SubspaceHook
from subpt_dense.hooks.trajectory_hook import TrajectoryHook
from subpt_dense.hooks.vocabulary_hook import VocabularyHook

__all__ = [
    "ConflictHook",
    "FiniteLossHook",
    "PromptFileHook",
    "PromptIdentityHook",
    "PromptReportHook",
    "RewindingTrainLoop",
    "RunStateHook",
    "SharedBuffersHook",
    "SubspaceHook",
    "TrajectoryHook",
    "VocabularyHook",
    "head_identity",
]
