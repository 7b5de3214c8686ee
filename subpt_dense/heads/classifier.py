"""Rows and features in, logits out (N proposals, K classes, D embedding)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from subpt_dense.heads.rows_taker import RowsTaker
from subpt_dense.registry import MODELS


@MODELS.register_module()
class TextClassifier(RowsTaker):
    """Cosine classifier over text rows, with a learned background row (ViLD, arXiv 2104.13921, section 3.3).

    ``logits = cos(projection(x), [rows; background]) / temperature``. The cosine is computed in float32, under autocast
    too: at a temperature of 0.01 half precision would round logits to 0.1.

    Args:
        in_features: Length of a region feature.
        out_features: Ignored: a host passes its number of classes here, while K follows the rows.
        embed_dim: D, the length of a row.
        temperature: What cosines are divided by, > 0.
        background: Whether a learned, normalised background row is the last column.
        init_cfg: mmengine initialisation, applied after this class's own.

    Raises:
        ValueError: If ``in_features``, ``embed_dim`` or ``temperature`` is not positive.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int | None = None,
        *,
        embed_dim: int,
        temperature: float = 0.01,
        background: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(embed_dim, init_cfg)
        for name, value in {"in_features": in_features, "temperature": temperature}.items():
            if not value > 0:
                raise ValueError(f"`{name}` of TextClassifier must be positive. Got {value}.")
        self.temperature = temperature
        self.projection = nn.Linear(in_features, embed_dim)
        # Not named `weight`: mmdet's BBoxHead draws every `weight` nested in its classifier anew.
        self.background = nn.Parameter(torch.empty(embed_dim)) if background else None
        self._reset()

    def _reset(self) -> None:
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        if self.background is not None:
            nn.init.normal_(self.background, std=self.embed_dim**-0.5)

    def init_weights(self) -> None:
        """Draw the weights once more, undoing what a host's ``init_cfg`` did to them, then apply ``init_cfg``."""
        if not self.is_init:
            self._reset()
        super().init_weights()

    def _home(self) -> torch.device:
        return self.projection.weight.device

    def forward(self, x: Tensor) -> Tensor:
        """Logits of region features.

        Args:
            x: ``[N, in_features]``; N may be 0.

        Returns:
            ``[N, K + 1]`` float32 (``[N, K]`` without background), in ``[-1, 1] / temperature``, background last.

        Raises:
            RuntimeError: If there are no rows.
        """
        rows = self._needed_rows()
        embedded = self.projection(x)  # [N, D]
        with torch.autocast(x.device.type, enabled=False):
            embedded = normalize(embedded.float(), dim=-1)
            rows = rows.float()
            if self.background is not None:
                rows = torch.cat([rows, normalize(self.background.float(), dim=0)[None]])  # [K + 1, D]
            return embedded @ rows.T / self.temperature
