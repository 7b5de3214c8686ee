"""Batches of images, or of maps that were computed beforehand (B images, D embedding, h x w cells, H x W pixels)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.functional import pad

from subpt_dense.registry import MODELS
from subpt_dense.segmentation.map_facts import DENSE

_STATS = ("mean", "std")


@MODELS.register_module()
class DensePreProcessor(SegDataPreProcessor):
    """mmseg's preprocessor, which lets the items of :class:`subpt_dense.segmentation.CachedMaps` through as they are.

    Maps of different sizes are padded below and to the right with zeros, which have no class; their labels are padded
    along with the ignored label in training, and predictions are cut back in testing.

    Args:
        **kwargs: As for ``mmseg.SegDataPreProcessor``: ``mean``, ``std``, ``bgr_to_rgb``, and as ``size_divisor`` the
            backbone's stride, in ``test_cfg`` too.
    """

    def normalisation(self) -> dict[str, Any]:
        """What is done to an image: ``mean`` and ``std`` in 0..255, or ``None``, the swap of channels, and ``pad_val``,
        which the padding below and to the right has and the cells at the edge see."""
        known = {name: getattr(self, name).flatten().tolist() if self._enable_normalize else None for name in _STATS}
        return {**known, "swap_channels": bool(self.channel_conversion), "pad_val": self.pad_val}

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """What the model takes.

        Args:
            data: ``inputs``: B images ``[3, H, W]`` or maps ``[D, h, w]``, of any sizes; ``data_samples``: B samples.
            training: Whether labels are padded along.

        Returns:
            ``inputs`` ``[B, 3, H, W]`` or ``[B, D, h, w]`` float32, and ``data_samples``.

        Raises:
            ValueError: If maps and images come in one batch, or maps are of images that were normalised in another way.
        """
        samples = data.get("data_samples") or []
        kinds = {DENSE in sample for sample in samples}
        if True not in kinds:
            return super().forward(data, training)
        if len(kinds) > 1:
            raise ValueError("A batch of DensePreProcessor must be all of images or all of maps. Got both.")
        mine = self.normalisation()
        for sample in samples:
            theirs = sample.metainfo[DENSE]["normalisation"]
            if theirs != mine:
                raise ValueError(
                    f"Maps must be of images that were normalised as by the model's DensePreProcessor, {mine}. Got "
                    f"{theirs}: the `preprocessor` of CachedMaps must be the model's."
                )
        data = self.cast_data(data)
        return self._stack(data["inputs"], data["data_samples"], training)

    def _stack(self, maps: Sequence[Tensor], samples: list[SegDataSample], training: bool) -> dict[str, Any]:
        height, width = (max(one.shape[side] for one in maps) for side in (1, 2))
        inputs = torch.stack(
            [pad(one.float(), (0, width - one.shape[2], 0, height - one.shape[1])) for one in maps]
        )  # [B, D, h, w]
        for sample in samples:
            stride = sample.metainfo[DENSE]["stride"]
            size = (height * stride, width * stride)  # H, W of what the padded maps cover
            own = sample.metainfo["img_shape"][:2]
            padding = (0, size[1] - own[1], 0, size[0] - own[0])
            if training:
                labels = sample.gt_sem_seg.data  # [1, H, W] of the sample's own size
                del sample.gt_sem_seg.data  # a PixelData keeps its size
                sample.gt_sem_seg.data = pad(labels, padding, value=self.seg_pad_val)
            sample.set_metainfo({"pad_shape": size, "padding_size" if training else "img_padding_size": padding})
        return {"inputs": inputs, "data_samples": samples}
