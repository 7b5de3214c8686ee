"""Image features and rows to logits, as CLIP classifies (B images, K classes, D embedding)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from subpt_dense.heads.rows_taker import RowsTaker
from subpt_dense.registry import MODELS


@MODELS.register_module()
class CosineClassifier(RowsTaker):
    """``logits = scale * cos(x, rows)``, nothing learned (CLIP, arXiv 2103.00020, section 3.1.2; CoOp, equation 1).

    Args:
        embed_dim: D, the length of a feature and of a row.
        scale: What cosines are multiplied by, > 0: CLIP's ``exp(logit_scale)``, 100 for the released weights.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: If ``embed_dim`` or ``scale`` is not positive.
    """

    takes_conditional = True

    def __init__(self, embed_dim: int, scale: float, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(embed_dim, init_cfg)
        if not scale > 0:
            raise ValueError(f"`scale` of CosineClassifier must be positive. Got {scale}.")
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Logits of image features.

        Args:
            x: ``[B, D]``; B may be 0.

        Returns:
            ``[B, K]`` float32 in ``[-scale, scale]``.

        Raises:
            RuntimeError: If there are no rows.
        """
        rows = self._needed_rows()
        with torch.autocast(x.device.type, enabled=False):
            features, rows = normalize(x.float(), dim=-1), rows.float()
            cosines = features @ rows.T if rows.ndim == 2 else torch.einsum("bd,bkd->bk", features, rows)
            return self.scale * cosines
