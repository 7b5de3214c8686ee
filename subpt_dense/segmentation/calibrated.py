"""Gamma, which is subtracted from the seen classes' scores in testing (B images, K classes, H x W pixels)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from mmseg.structures import SegDataSample
from torch import Tensor

from subpt_dense.heads.ensemble import check_groups


class CalibratedScores:
    """A head whose seen classes lose ``gamma`` in testing, because training favours them.

    Calibrated stacking (Chao et al., arXiv 1605.04253). Put it before the host's class, set :attr:`gamma`, and let what
    the head predicts go through :meth:`lower_seen`. It is the same for every pixel, so that resizing the maps, or
    averaging windows, before or after it gives the same.

    Attributes:
        gamma: In units of the head's scores; 0 changes nothing.
        largest_gamma: The largest one worth trying. Class scores of mask proposals are sums of probabilities.
    """

    gamma: float = 0.0
    largest_gamma: ClassVar[float] = 1.0
    # No buffer: its length follows the vocabulary, and checkpoints and DDP's broadcasts must not see that.
    _base: Tensor | None = None

    def set_groups(self, base: Tensor) -> None:
        """From now on ``base``, bool ``[K]``, says which names of the vocabulary are seen.

        Raises:
            TypeError: If it is not a bool tensor.
            ValueError: If it is not of shape ``[K]``.
        """
        self._base = check_groups(base, type(self).__name__)

    def lower_seen(self, scores: Tensor) -> Tensor:
        """``scores`` ``[B, K, H, W]``, less ``gamma`` where the class is seen.

        Raises:
            RuntimeError: If ``gamma`` is set and nobody has said which of the K classes are seen.
        """
        offset = self.seen_offset(scores.shape[1], scores.device)
        return scores if offset is None else scores + offset[:, None, None]

    def seen_offset(self, classes: int, device: torch.device) -> Tensor | None:
        """What the K classes' scores change by, ``[K]`` float32: ``-gamma`` or 0; ``None`` where gamma is 0.

        Raises:
            RuntimeError: If ``gamma`` is set and nobody has said which of the K classes are seen.
        """
        if not self.gamma:
            return None
        if self._base is None or len(self._base) != classes:
            got = "none" if self._base is None else f"groups of {len(self._base)}"
            raise RuntimeError(
                f"`gamma` of {type(self).__name__} needs to know which of the {classes} classes are seen. Got {got}: "
                "call `set_groups(base)`, as `set_vocabulary(names, base)` of the segmentor and VocabularyHook do."
            )
        return -self.gamma * self._base.to(device, torch.float32)


def note_gamma(head: Any, samples: Sequence[SegDataSample]) -> None:
    """Write a head's gamma on what it has predicted, so that results can name it; nothing where it has none."""
    if hasattr(head, "gamma"):
        for sample in samples:
            sample.set_metainfo({"gamma": head.gamma})
