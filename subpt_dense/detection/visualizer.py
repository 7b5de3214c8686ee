"""Boxes with names, base and novel classes in different colours."""

from typing import Any

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from numpy.typing import NDArray

from subpt_dense.registry import VISUALIZERS

#: RGB.
BASE_COLOUR, NOVEL_COLOUR = (70, 150, 255), (255, 140, 0)


@VISUALIZERS.register_module()
class GroupVisualizer(DetLocalVisualizer):
    """mmdet's visualizer, ground truth left and detections right, coloured by group: base blue, novel orange.

    Args:
        name: mmengine's name of the instance.
        min_side: Pictures with a shorter side are enlarged to it in pixels, so that names can be read.
        **kwargs: As for ``mmdet.DetLocalVisualizer``.
    """

    def __init__(self, name: str = "visualizer", *, min_side: int = 480, line_width: int = 2, **kwargs: Any) -> None:
        self.min_side = min_side
        super().__init__(name, line_width=line_width, **kwargs)

    @property
    def dataset_meta(self) -> dict[str, Any]:
        """Class names with one colour each; a data set without groups keeps its own palette."""
        return self._meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict[str, Any] | None) -> None:
        meta = dict(meta or {})
        novel = set(meta.get("novel_classes", ()))
        if novel:
            meta["palette"] = [NOVEL_COLOUR if name in novel else BASE_COLOUR for name in meta["classes"]]
        self._meta = meta

    def add_datasample(
        self, name: str, image: NDArray[np.uint8], data_sample: DetDataSample | None = None, **kwargs: Any
    ) -> None:
        """Draws one picture ``[H, W, 3]`` RGB with its boxes, enlarged if small; arguments as for mmdet's."""
        factor = self.min_side / min(image.shape[:2])
        if factor > 1:
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
            data_sample = None if data_sample is None else _enlarge(data_sample, factor, image.shape[:2])
        super().add_datasample(name, image, data_sample, **kwargs)


def _enlarge(sample: DetDataSample, factor: float, shape: tuple[int, ...]) -> DetDataSample:
    """A copy for drawing; the sample itself may still be scored."""
    sample = sample.clone()  # the instances in it are shared with the original
    for key in ("gt_instances", "pred_instances"):
        if key not in sample:
            continue
        instances = getattr(sample, key).clone()
        boxes = instances.bboxes
        instances.bboxes = getattr(boxes, "tensor", boxes) * factor
        if "masks" in instances:
            masks = instances.masks
            dense = masks if isinstance(masks, torch.Tensor) else torch.from_numpy(masks.to_ndarray())
            resized = torch.nn.functional.interpolate(dense[:, None].float(), size=shape, mode="nearest")
            instances.masks = resized[:, 0].bool()  # [N, H, W], N may be 0
        setattr(sample, key, instances)
    return sample
