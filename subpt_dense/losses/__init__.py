"""Losses: anchors that hold learned prompts near hand-crafted ones, distillation, references to compare with."""

from subpt_dense.losses.anchor import TextAnchor
from subpt_dense.losses.distillation import RegionDistillation
from subpt_dense.losses.soft_background import SoftBackground
from subpt_dense.losses.zero_shot import ZeroShotKL

__all__ = ["RegionDistillation", "SoftBackground", "TextAnchor", "ZeroShotKL"]
