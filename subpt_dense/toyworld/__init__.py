"""The embedded default: a world of coloured, patterned shapes and tiny CLIPs that know it.

Importing this package makes the tiny CLIPs' architecture known to open_clip as ``subpt-toy``.
"""

from subpt_dense.toyworld.clip import CLIP_SEEDS, MODEL_NAME, write_checkpoint

__all__ = ["CLIP_SEEDS", "MODEL_NAME", "write_checkpoint"]
