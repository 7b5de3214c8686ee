"""Rows and features in, logits out (N proposals, K classes, D embedding)."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.functional import normalize

from subpt_dense.prompts.held import Held
from subpt_dense.registry import MODELS


@MODELS.register_module()
class TextClassifier(BaseModule):
    """Cosine classifier over text rows, with a learned background row (ViLD, arXiv 2104.13921, section 3.3).

    ``logits = cos(projection(x), [rows; background]) / temperature``. The rows are handed in by the model's one prompt
    head (:meth:`set_rows`) and keep their graph; they are neither parameters nor buffers and never enter a state dict.
    The cosine is computed in float32, under autocast too: at a temperature of 0.01 half precision would round logits to
    0.1.

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
        super().__init__(init_cfg)
        for name, value in {"in_features": in_features, "embed_dim": embed_dim, "temperature": temperature}.items():
            if not value > 0:
                raise ValueError(f"`{name}` of TextClassifier must be positive. Got {value}.")
        self.embed_dim = embed_dim
        self.temperature = temperature
        self.projection = nn.Linear(in_features, embed_dim)
        # Not named `weight`: mmdet's BBoxHead draws every `weight` nested in its classifier anew.
        self.background = nn.Parameter(torch.empty(embed_dim)) if background else None
        self._rows: Held[Tensor] = Held()
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

    def set_rows(self, rows: Tensor | None) -> None:
        """Classify with these rows from now on.

        Args:
            rows: Unit rows ``[K, D]``, floating, on this module's device, graph kept. ``None`` takes them away.

        Raises:
            TypeError: If ``rows`` is not a floating tensor.
            ValueError: If it is not ``[K, D]`` with K >= 1 and D = ``embed_dim``, or lies on another device.
        """
        if rows is None:
            self._rows.take()
            return
        if not isinstance(rows, Tensor) or not rows.is_floating_point():
            got = rows.dtype if isinstance(rows, Tensor) else type(rows).__name__
            raise TypeError(f"`rows` of TextClassifier must be a floating tensor [K, {self.embed_dim}]. Got {got}.")
        if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] != self.embed_dim:
            raise ValueError(
                f"`rows` of TextClassifier must have shape [K, {self.embed_dim}], K >= 1. Got {list(rows.shape)}. "
                "Its `embed_dim` must be that of the text tower or rows file."
            )
        if rows.device != self.projection.weight.device:
            raise ValueError(
                f"`rows` of TextClassifier must be on its device, {self.projection.weight.device}. Got {rows.device}: "
                "move the prompt head together with the model."
            )
        self._rows.put(rows)

    @property
    def rows(self) -> Tensor | None:
        """The rows in use, ``[K, D]``, or ``None``."""
        return self._rows.get()

    def forward(self, x: Tensor) -> Tensor:
        """Logits of region features.

        Args:
            x: ``[N, in_features]``; N may be 0.

        Returns:
            ``[N, K + 1]`` float32 (``[N, K]`` without background), in ``[-1, 1] / temperature``, background last.

        Raises:
            RuntimeError: If there are no rows.
        """
        rows = self._rows.get()
        if rows is None:
            raise RuntimeError(
                "TextClassifier has no rows to classify with. Call `set_rows(rows)` first: a model built on "
                "PromptedModel does so in `hand_out_rows()`, once a step, and again after `set_vocabulary()`."
            )
        embedded = self.projection(x)  # [N, D]
        with torch.autocast(x.device.type, enabled=False):
            embedded = normalize(embedded.float(), dim=-1)
            rows = rows.float()
            if self.background is not None:
                rows = torch.cat([rows, normalize(self.background.float(), dim=0)[None]])  # [K + 1, D]
            return embedded @ rows.T / self.temperature
