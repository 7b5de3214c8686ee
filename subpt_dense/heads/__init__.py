"""Rows and features to logits, and the mixin that gives a host model its one prompt head. Host-free."""

from subpt_dense.heads.classifier import TextClassifier
from subpt_dense.heads.cosine import CosineClassifier
from subpt_dense.heads.ensemble import fuse_scores, hand_out_groups
from subpt_dense.heads.language import complete_prompt
from subpt_dense.heads.prompted import PromptedModel
from subpt_dense.heads.rows_taker import RowsTaker
from subpt_dense.heads.vlm_fusion import VLMFusion, fuse_log_scores

__all__ = [
    "CosineClassifier",
    "PromptedModel",
    "RowsTaker",
    "TextClassifier",
    "VLMFusion",
    "complete_prompt",
    "fuse_log_scores",
    "fuse_scores",
    "hand_out_groups",
]
