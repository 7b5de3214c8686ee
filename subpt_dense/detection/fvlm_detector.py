"""F-VLM: a two-stage detector on a frozen CLIP, arXiv 2209.15639 (B images, H x W pixels)."""

from typing import Any

from torch import Tensor

from subpt_dense.detection.clip_backbone import FrozenCLIPBackbone
from subpt_dense.detection.detector import OVTwoStageDetector
from subpt_dense.detection.fvlm_roi_head import FVLMRoIHead
from subpt_dense.registry import MODELS


@MODELS.register_module()
class FVLMDetector(OVTwoStageDetector):
    """Neck and heads trained on a frozen CLIP's maps; that CLIP's own word on every region in testing.

    Args:
        backbone: Config of :class:`subpt_dense.detection.FrozenCLIPBackbone`.
        roi_head: Config of :class:`subpt_dense.detection.FVLMRoIHead`.
        *args, **kwargs: As for :class:`subpt_dense.detection.OVTwoStageDetector`.

    Raises:
        TypeError: If the backbone or the RoI head is another.
        ValueError: If the prompt's rows come from another CLIP than the trunk: their cosines would mean nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, part, kind in (
            ("backbone", self.backbone, FrozenCLIPBackbone),
            ("roi_head", self.roi_head, FVLMRoIHead),
        ):
            if not isinstance(part, kind):
                raise TypeError(f"`{name}` of FVLMDetector must be a {kind.__name__}. Got {type(part).__name__}.")
        trunk = {"backbone": self.backbone.key.spec.model, "weights_hash": self.backbone.text_hash}
        rows = self.prompt.identity()
        if any(rows.get(key) not in (None, value) for key, value in trunk.items()):
            raise ValueError(
                f"`prompt` of FVLMDetector must give rows of the trunk's own CLIP, {trunk['backbone']!r} with the text "
                f"weights {trunk['weights_hash']}. Got {rows.get('backbone')!r} with {rows.get('weights_hash')}."
            )

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """The neck's maps for images ``[B, 3, H, W]``; the trunk's last map goes to the RoI head."""
        features = super().extract_feat(batch_inputs)
        self.roi_head.put_regions(self.backbone.take_regions())
        return features
