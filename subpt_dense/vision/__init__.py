"""The frozen image side: CLIP's image towers, read cell by cell."""

from subpt_dense.vision.dense import DenseTower
from subpt_dense.vision.loading import get_dense_tower, load_dense_tower
from subpt_dense.vision.modes import ATTENTIONS, PUBLISHED_MODES, DenseMode

__all__ = ["ATTENTIONS", "PUBLISHED_MODES", "DenseMode", "DenseTower", "get_dense_tower", "load_dense_tower"]
