"""F-VLM's box scores at test time, in mmdet's RoI head (B images, N proposals of a batch, K classes)."""

from typing import Any

from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor

from subpt_dense.detection.vlm_pool import RegionMap
from subpt_dense.heads import VLMFusion
from subpt_dense.prompts.held import Held
from subpt_dense.registry import MODELS


@MODELS.register_module()
class FVLMRoIHead(StandardRoIHead):
    """mmdet's RoI head, whose class scores in testing are fused with those of the frozen trunk (arXiv 2209.15639).

    Training is the host's own: the frozen trunk classifies nothing there. Goes into
    :class:`subpt_dense.detection.FVLMDetector`, which brings the trunk's map. Boxes and masks are the host's.

    Args:
        fusion: Config of :class:`subpt_dense.heads.VLMFusion`.
        **kwargs: As for ``mmdet.StandardRoIHead``.

    Raises:
        ValueError: If the box head's classes are not a softmax with background, which is what is fused.
    """

    def __init__(self, *, fusion: dict | VLMFusion, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        loss = self.bbox_head.loss_cls
        if getattr(loss, "use_sigmoid", False) or getattr(loss, "custom_activation", False):
            raise ValueError(
                "`bbox_head.loss_cls` of FVLMRoIHead must be a softmax, `use_sigmoid=False`. "
                f"Got {type(loss).__name__} with another activation."
            )
        self.fusion: VLMFusion = MODELS.build(fusion) if isinstance(fusion, dict) else fusion
        self._regions: Held[RegionMap] = Held()

    def put_regions(self, regions: RegionMap | None) -> None:
        """Bring the trunk's map of the batch that comes next."""
        if regions is not None:
            self._regions.put(regions)

    def loss(self, x: tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> dict:
        """The host's losses, from the detector's own scores."""
        self._regions.take()
        return super().loss(x, rpn_results_list, batch_data_samples)

    def forward(self, x: tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList = None) -> tuple:
        """The host's tensors; class scores ``[N, K + 1]`` are logarithms of the fused probabilities."""
        self._check_regions()
        try:
            return super().forward(x, rpn_results_list, batch_data_samples)
        finally:
            self._regions.take()

    def predict(
        self,
        x: tuple[Tensor],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
    ) -> InstanceList:
        """The host's detections, by the fused scores.

        Raises:
            RuntimeError: If nobody brought the trunk's map.
        """
        self._check_regions()
        try:
            return super().predict(x, rpn_results_list, batch_data_samples, rescale)
        finally:
            self._regions.take()  # the map of a batch must not outlive it

    def _check_regions(self) -> None:
        if self._regions.get() is None:
            raise RuntimeError(
                "FVLMRoIHead has no map of the frozen trunk to classify regions by. Build it into "
                "`subpt_dense.FVLMDetector`, which calls `put_regions(regions)` for every batch."
            )

    def _bbox_forward(self, x: tuple[Tensor], rois: Tensor) -> dict:
        results = super()._bbox_forward(x, rois)
        regions = self._regions.get()
        if regions is not None:
            # The host takes the softmax of what stands here: that of log-probabilities is the probabilities.
            results["cls_score"] = self.fusion(
                results["cls_score"], regions.embed(rois), regions.trunk.background
            )  # [N, K + 1]
        return results
