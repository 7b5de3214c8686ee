"""The shims that let the host frameworks run from plain wheels, and nothing else.

Two of them: a stand-in for mmcv's compiled operators (a compiled one wins), and the list of harmless types that
mmengine writes into its checkpoints, so that these load with ``weights_only=True``.
"""

from subpt_dense.compat.checkpoints import allow_mmengine_checkpoints
from subpt_dense.compat.mmcv_ext import MissingOperatorError, install_mmcv_ext

__all__ = ["MissingOperatorError", "allow_mmengine_checkpoints", "install", "install_mmcv_ext"]


def install() -> None:
    """Install every shim. Idempotent and cheap: imports neither mmcv nor a host; safe where mmcv is absent."""
    install_mmcv_ext()
    allow_mmengine_checkpoints()
