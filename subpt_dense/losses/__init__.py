"""Losses on text features: anchors that hold learned prompts near hand-crafted ones."""

from subpt_dense.losses.anchor import TextAnchor

__all__ = ["TextAnchor"]
