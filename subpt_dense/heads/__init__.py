"""Rows and features to logits, and the mixin that gives a host model its one prompt head. Host-free."""

from subpt_dense.heads.classifier import TextClassifier
from subpt_dense.heads.cosine import CosineClassifier
from subpt_dense.heads.language import complete_prompt
from subpt_dense.heads.prompted import PromptedModel

__all__ = ["CosineClassifier", "PromptedModel", "TextClassifier", "complete_prompt"]
