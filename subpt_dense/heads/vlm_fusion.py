"""Detector and frozen CLIP, one score: F-VLM's geometric mean (N proposals, K classes, D embedding)."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize

from subpt_dense.heads.ensemble import check_groups
from subpt_dense.heads.rows_taker import RowsTaker
from subpt_dense.registry import MODELS


def fuse_log_scores(detector: Tensor, vlm: Tensor, weights: Tensor) -> Tensor:
    """``det^(1-w) * vlm^w`` for every class, the detector's own for background, summing to one (arXiv 2209.15639).

    Computed on logarithms: at a temperature of 0.01 the probabilities themselves underflow.

    Args:
        detector: Logarithms of the detector's class probabilities ``[N, K + 1]``, background last; N may be 0.
        vlm: Those of the frozen model, without background ``[N, K]``.
        weights: w of each class ``[K]``, in 0..1.

    Returns:
        Logarithms of the fused probabilities ``[N, K + 1]``, background last.
    """
    classes = (1 - weights) * detector[:, :-1] + weights * vlm  # [N, K]
    return log_softmax(torch.cat([classes, detector[:, -1:]], dim=1), dim=1)


@MODELS.register_module()
class VLMFusion(RowsTaker):
    """Classifies the frozen model's region embeddings by the rows, and fuses that with the detector's scores.

    F-VLM, arXiv 2209.15639. The frozen model's probabilities are a softmax of cosines over a temperature.
    As in the authors' code, the text "background" competes in that softmax, its own probability is not used, and the
    fused scores are made to sum to one. Nothing is learned.

    Args:
        embed_dim: D, the length of a row.
        temperature: What cosines are divided by, > 0.
        w_base: Weight of the frozen model on classes the detector was trained with, in [0, 1]; 0 leaves it out.
        w_novel: The same on all other classes.
        background: Whether the text "background" competes, in a CLIP that knows the word.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: If ``embed_dim`` or ``temperature`` is not positive, or a weight is outside [0, 1].
    """

    def __init__(
        self,
        embed_dim: int,
        temperature: float = 0.01,
        w_base: float = 0.35,
        w_novel: float = 0.65,
        background: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(embed_dim, init_cfg)
        if not temperature > 0:
            raise ValueError(f"`temperature` of VLMFusion must be positive. Got {temperature}.")
        for name, value in {"w_base": w_base, "w_novel": w_novel}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` of VLMFusion must be in [0, 1]. Got {value}.")
        self.temperature = temperature
        self.w_base = w_base
        self.w_novel = w_novel
        self.background = background
        # No buffer: its length changes with the vocabulary, and copies that pair buffers (EMA) would trip over it.
        self._base: Tensor | None = None

    def set_groups(self, base: Tensor) -> None:
        """Say which classes of the vocabulary are base. Until then none is: a user's own words weigh like novel ones.

        Args:
            base: ``[K]`` bool, in the order of the vocabulary.

        Raises:
            TypeError, ValueError: If it is not a bool tensor of shape ``[K]``.
        """
        self._base = check_groups(base, type(self).__name__)

    def weights(self, classes: int, device: torch.device | str = "cpu") -> Tensor:
        """w of each class, ``[K]`` float32.

        Raises:
            ValueError: If the groups last set are of another number of classes.
        """
        if self._base is None:
            return torch.full((classes,), self.w_novel, device=device)
        if len(self._base) != classes:
            raise ValueError(
                f"`base` of VLMFusion must name each of the {classes} classes of the vocabulary as base or not. Got "
                f"{len(self._base)}: call `set_groups(base)` after every change of the vocabulary."
            )
        base = self._base.to(device)
        return torch.where(base, self.w_base, self.w_novel)

    def forward(self, detector: Tensor, regions: Tensor, background: Tensor | None = None) -> Tensor:
        """Logarithms of the fused probabilities; their softmax is the fused probabilities.

        Args:
            detector: The detector's logits ``[N, K + 1]``, background last; N may be 0.
            regions: Unit embeddings of the same proposals by the frozen model ``[N, D]``.
            background: Unit row of the text "background" ``[D]``, where it is to compete.

        Returns:
            ``[N, K + 1]`` float32.

        Raises:
            RuntimeError: If there are no rows.
            ValueError: If ``detector`` is of another number of classes than the rows, or ``background`` is missing.
        """
        rows = self._needed_rows()
        if detector.shape[1] != len(rows) + 1:
            raise ValueError(
                f"`detector` of VLMFusion must have {len(rows)} + 1 columns, one a row and background. "
                f"Got {detector.shape[1]}."
            )
        if self.background and background is None:
            raise ValueError(
                "`background` of VLMFusion must be a row [D], unless built with `background=False`. Got none."
            )
        with torch.autocast(detector.device.type, enabled=False):
            texts = rows.float()
            if self.background and background is not None:
                texts = torch.cat([texts, background.float()[None]])  # [K + 1, D]
            cosines = normalize(regions.float(), dim=1) @ texts.T
            vlm = log_softmax(cosines / self.temperature, dim=1)[:, : len(rows)]  # [N, K]
            weights = self.weights(len(rows), detector.device)
            return fuse_log_scores(log_softmax(detector.float(), dim=1), vlm, weights)
