"""Cached regions of an image, brought into a training sample (N regions, D embedding)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.datasets.transforms import PackDetInputs
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData

from subpt_dense.datasets.region_cache import RegionCache
from subpt_dense.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackRegionInputs(PackDetInputs):
    """``mmdet.PackDetInputs``, plus ``data_samples.regions``: the image's cached boxes and their embeddings.

    The boxes, which the cache has in pixels of the original image, are put where the image's content has gone: the
    transforms before this one record that as ``homography_matrix``. mmdet's ``Resize``, ``FixShapeResize``,
    ``RandomFlip``, ``RandomCrop`` and its geometric augmentations (``Rotate``, ``ShearX``, ...) do; ``RandomShift``,
    ``RandomAffine``, ``Expand``, ``MinIoURandomCrop``, ``RandomCenterCropPad``, ``Mosaic``, ``MixUp`` and ``CopyPaste``
    do not and must not be used with it, and neither must ``batch_augments`` that resize.

    ``regions`` is an ``InstanceData`` with ``bboxes`` ``[N, 4]`` float32, xyxy in pixels of the transformed image and
    clipped to it, and ``embeddings`` ``[N, D]`` float16; N may be 0. Its metainfo says which CLIP they are of.

    Args:
        folder: The region cache, made by ``tools/extract_regions.py``.
        num: At most so many regions a sample, another draw every time; ``None`` takes all.
        min_visible: Regions of which a smaller share of the area is left in a cropped image are dropped, in 0..1:
            their embeddings are of something that is no longer there.
        **kwargs: As for ``mmdet.PackDetInputs``: ``meta_keys``.

    Raises:
        ValueError: If an argument is out of range, or the cache is damaged; in ``transform``, if the image has another
            size than at first and no transform says how.
        LookupError: In ``transform``, if the cache does not have the image.
    """

    def __init__(self, *, folder: str | Path, num: int | None = None, min_visible: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num is not None and not num > 0:
            raise ValueError(f"`num` of PackRegionInputs must be positive, or None for all regions. Got {num}.")
        if not 0 <= min_visible <= 1:
            raise ValueError(f"`min_visible` of PackRegionInputs must be in [0, 1]. Got {min_visible}.")
        self.folder, self.num, self.min_visible = folder, num, min_visible
        self.cache = RegionCache(folder)
        manifest = self.cache.manifest
        # Weights go by the file's name, as a prompt head's identity does: folders differ between machines.
        self._clip = {"backbone": manifest["backbone"], "weights": Path(str(manifest["weights"])).name}

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Packs the sample and adds the regions of ``results["img_id"]``."""
        packed = super().transform(results)
        boxes = self._moved_boxes(results)
        areas = boxes.areas
        boxes.clip_(results["img_shape"][:2])
        kept = torch.nonzero((boxes.areas >= self.min_visible * areas) & (boxes.areas > 0))[:, 0].numpy()
        if self.num is not None and len(kept) > self.num:
            # Sorted, because the embeddings lie on disk in this order. numpy's generator is the loader worker's own.
            kept = np.sort(np.random.choice(kept, self.num, replace=False))
        embeddings = np.asarray(self.cache.embeddings(results["img_id"]))[kept]  # indexing makes the only copy
        packed["data_samples"].regions = InstanceData(
            metainfo=self._clip, bboxes=boxes.tensor[torch.from_numpy(kept)], embeddings=torch.from_numpy(embeddings)
        )
        return packed

    def _moved_boxes(self, results: dict[str, Any]) -> HorizontalBoxes:
        """The image's cached boxes where its content is now, not clipped."""
        homography = results.get("homography_matrix")
        boxes = HorizontalBoxes(torch.from_numpy(np.array(self.cache.boxes(results["img_id"]), dtype=np.float32)))
        boxes.clip_(results["ori_shape"][:2])  # what the image tower has seen of a box that sticks out
        if homography is not None:
            boxes.project_(np.asarray(homography, dtype=np.float32))
        elif tuple(results["img_shape"][:2]) != tuple(results["ori_shape"][:2]):
            raise ValueError(
                "The transforms before PackRegionInputs must record `homography_matrix`, as mmdet's Resize does. Got "
                f"none for an image of {list(results['img_shape'][:2])} pixels that was {list(results['ori_shape'])}."
            )
        return boxes

    def __repr__(self) -> str:
        """The arguments."""
        arguments = f"folder={str(self.folder)!r}, num={self.num}, min_visible={self.min_visible}"
        return f"{type(self).__name__}({arguments}, meta_keys={self.meta_keys})"
