"""Losses on text features: anchors that hold learned prompts near hand-crafted ones, and references to compare with."""

from subpt_dense.losses.anchor import TextAnchor
from subpt_dense.losses.zero_shot import ZeroShotKL

__all__ = ["TextAnchor", "ZeroShotKL"]
