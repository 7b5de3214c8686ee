"""Dense features and rows to class maps (B images, K classes, D embedding, h x w cells, H x W pixels)."""

from typing import ClassVar

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor
from torch.nn.functional import conv2d, normalize

from subpt_dense.heads import RowsTaker
from subpt_dense.prompts.held import Held
from subpt_dense.registry import MODELS
from subpt_dense.segmentation.calibrated import CalibratedScores


@MODELS.register_module()
class DenseCLIPHead(CalibratedScores, RowsTaker, BaseDecodeHead):
    """``logits = scale * cos(feature, row)`` in every cell, as one 1 x 1 convolution; nothing learned here.

    The rows come from the model's one prompt head (:meth:`set_rows`) and keep their graph. Logits are resized to the
    labels' or the image's size as in every mmseg head. In testing ``gamma`` is subtracted from the logits of the seen
    classes, which training favours (calibrated stacking, Chao et al., arXiv 1605.04253; for segmentation, zsseg, arXiv
    2112.14757); in training never.

    Args:
        embed_dim: D, the length of a feature and of a row.
        scale: What cosines are multiplied by, > 0. ``None``: the ``exp(logit_scale)`` of the segmentor's CLIP.
        gamma: What is subtracted from seen classes in testing, in units of a logit (``scale`` times a cosine).
        in_index: Which of the backbone's maps is read.
        loss_decode: Config of mmseg losses. By default the cross-entropy, averaged over the pixels that are labelled.
        ignore_index: The label of pixels without one.
        align_corners: How logits are resized.
        sampler: Config of an mmseg pixel sampler.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: If ``embed_dim`` or ``scale`` is not positive.
    """

    largest_gamma: ClassVar[float] = 10.0

    def __init__(
        self,
        embed_dim: int,
        scale: float | None = None,
        *,
        gamma: float = 0.0,
        in_index: int = -1,
        loss_decode: dict | list[dict] | None = None,
        ignore_index: int = 255,
        align_corners: bool = False,
        sampler: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        for name, value in {"embed_dim": embed_dim, "scale": scale}.items():
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` of DenseCLIPHead must be positive. Got {value}.")
        # Of the two bases only the host's constructor can run: each calls mmengine's with what the other never takes.
        BaseDecodeHead.__init__(
            self,
            in_channels=embed_dim,
            channels=embed_dim,
            num_classes=2,  # until the vocabulary is set
            out_channels=2,
            dropout_ratio=0,
            in_index=in_index,
            loss_decode=loss_decode or {"type": "mmseg.CrossEntropyLoss", "avg_non_ignore": True},
            ignore_index=ignore_index,
            sampler=sampler,
            align_corners=align_corners,
            init_cfg=init_cfg,
        )
        del self.conv_seg  # the rows stand in its place
        self.embed_dim = embed_dim
        self._rows: Held[Tensor] = Held()
        self.scale = scale
        self.gamma = gamma

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Logits ``[B, K, h, w]`` of maps ``[B, D, h, w]``, of which one is read.

        Raises:
            RuntimeError: If there are no rows or no scale, or ``gamma`` is set and nobody has said which classes are
                seen.
        """
        return self.cls_seg(self._transform_inputs(inputs))

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Logits ``[B, K, h, w]`` float32 of features ``[B, D, h, w]``, in ``[-scale, scale]`` where gamma is 0."""
        rows = self._needed_rows()
        if self.scale is None:
            raise RuntimeError(
                "`scale` of DenseCLIPHead must be given where no segmentor hands in its CLIP's. Got None."
            )
        with torch.autocast(feat.device.type, enabled=False):
            weight = (self.scale * rows.float())[:, :, None, None]  # [K, D, 1, 1]
            bias = None if self.training else self.seen_offset(len(rows), feat.device)
            return conv2d(normalize(feat.float(), dim=1), weight, bias)

    def extra_repr(self) -> str:
        """The arguments that differ from head to head."""
        return f"embed_dim={self.embed_dim}, scale={self.scale}, gamma={self.gamma}, {super().extra_repr()}"
