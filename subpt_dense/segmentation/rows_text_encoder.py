"""The prompt head's rows where a multimodal segmentor keeps its text encoder (K classes, D embedding)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from subpt_dense.heads import RowsTaker
from subpt_dense.registry import MODELS
from subpt_dense.text import TextSpec, get_tower, load_tower


@MODELS.register_module()
class RowsTextEncoder(RowsTaker):
    """Takes the place of ``mmseg.CLIPTextEncoder`` and keeps its contract: called without arguments, gives class rows.

    The rows are those that the model's one prompt head hands in, with their graph; no text tower is built here. As
    there, the last row is a learned background (SAN, arXiv 2302.12242, section 3.3: masks that belong to no class), and
    all rows come multiplied by CLIP's ``exp(logit_scale)``, which is not learned.

    Args:
        embed_dim: D, the length of a row.
        text: The CLIP whose scale is taken, ``dict(model=..., pretrained=...)``; the prompt head's own.
        scale: The scale itself, > 0, where the rows come from a file: 100 for OpenAI's weights. This or ``text``.
        cat_bg: Whether there is a background row; mmseg's name for it.
        init_cfg: mmengine initialisation. ``Pretrained_Part``, by which mmseg hands SAN's parts one file of CLIP
            weights, is left alone: such a file has no background row.

    Raises:
        ValueError: If ``embed_dim`` or ``scale`` is not positive, or not exactly one of ``text`` and ``scale`` is set.
        FileNotFoundError, RuntimeError: If the weights that ``text`` names cannot be had.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        text: Mapping[str, Any] | None = None,
        scale: float | None = None,
        cat_bg: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(embed_dim, init_cfg)
        if (text is None) == (scale is None):
            raise ValueError(
                "RowsTextEncoder must be given either `text`, the CLIP that the rows come from, or its `scale`. "
                f"Got {'neither' if text is None else 'both'}."
            )
        self.scale = float(
            get_tower(load_tower(TextSpec(**text)), "cpu").logit_scale if text is not None else scale or 0.0
        )
        if not self.scale > 0:
            raise ValueError(f"`scale` of RowsTextEncoder must be positive. Got {scale}.")
        self.cat_bg = cat_bg
        # mmseg's name and shape, so that a background row learned there can be loaded.
        self.bg_embed = nn.Parameter(torch.empty(1, embed_dim)) if cat_bg else None
        self._reset()

    def _reset(self) -> None:
        if self.bg_embed is not None:
            nn.init.normal_(self.bg_embed, std=self.embed_dim**-0.5)

    def init_weights(self) -> None:
        """Draw the background row; then what ``init_cfg`` says, unless that names a CLIP for all of SAN's parts."""
        if self.is_init:
            return
        self._reset()
        if isinstance(self.init_cfg, dict) and self.init_cfg.get("type") == "Pretrained_Part":
            self._is_init = True
            return
        super().init_weights()

    def _home(self) -> torch.device | None:
        return None if self.bg_embed is None else self.bg_embed.device

    def forward(self) -> Tensor:
        """Class rows, scaled.

        Returns:
            ``[K + 1, D]`` float32 (``[K, D]`` without background), each of length ``scale``, background last.

        Raises:
            RuntimeError: If there are no rows.
        """
        rows = self._needed_rows()
        with torch.autocast(rows.device.type, enabled=False):
            rows = rows.float()
            if self.bg_embed is not None:
                rows = torch.cat([rows, normalize(self.bg_embed.float(), dim=-1)])
            return self.scale * rows
