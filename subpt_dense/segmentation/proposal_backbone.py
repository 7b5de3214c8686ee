"""A backbone that hands its images on, for heads that look at them again (B images, H x W pixels)."""

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from subpt_dense.registry import MODELS


@MODELS.register_module()
class BackboneWithImages(BaseModule):
    """Any mmseg backbone whose maps are followed by the images they were made of.

    An mmseg decode head sees maps alone; :class:`subpt_dense.segmentation.ProposalCLIPHead` cuts regions out of the
    image. This way whatever crops or slides over the image feeds both.

    Args:
        backbone: Config of the backbone.
        init_cfg: mmengine initialisation.
    """

    def __init__(self, backbone: dict[str, Any], init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.backbone = MODELS.build(backbone)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The backbone's maps, finest first, then the images ``[B, 3, H, W]`` as given."""
        return (*self.backbone(images), images)
