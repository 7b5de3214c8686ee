"""What happens during training; these hooks know prompts only through their protocol."""

from subpt_dense.hooks.finite_loss_hook import FiniteLossHook
from subpt_dense.hooks.identity_hook import PromptIdentityHook, head_identity
from subpt_dense.hooks.report_hook import PromptReportHook
from subpt_dense.hooks.subspace_hook import SubspaceHook
from subpt_dense.hooks.vocabulary_hook import VocabularyHook

__all__ = [
    "FiniteLossHook",
    "PromptIdentityHook",
    "PromptReportHook",
    "SubspaceHook",
    "VocabularyHook",
    "head_identity",
]
