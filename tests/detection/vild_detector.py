"""The toy ViLD detector of the shipped config on random pictures with masks and regions."""

import copy
import functools
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch.nn.functional import normalize

from subpt_dense.detection import OVTwoStageDetector
from tests.detection.toy_detector import BASE, batch, build_detector

SIZE, D = 64, 64
CLIP_FACTS = {"backbone": "subpt-toy", "weights": "clip_seed0.pt"}


@functools.cache
def _built(clip: Path, head: str) -> OVTwoStageDetector:
    model = build_detector(clip, f"vild_{head}")
    model.set_vocabulary(BASE, base=BASE)
    return model


def build_vild(clip: Path, head: str = "template") -> OVTwoStageDetector:
    """The model of ``ovd_toy_vild_<head>.py``, its vocabulary the base names; a copy at every call."""
    return copy.deepcopy(_built(clip, head))


def vild_batch(
    labels: tuple[int, ...] = (0, 1), regions: tuple[int, ...] = (5, 3), clip_facts: dict[str, str] | None = None
) -> tuple[torch.Tensor, list[DetDataSample]]:
    """Normalised random pictures with a box and a mask a label, and so many cached regions each."""
    inputs, samples = batch(labels, images=len(regions))
    generator = torch.Generator().manual_seed(2)
    for sample, count in zip(samples, regions, strict=True):
        masks = np.zeros((len(labels), SIZE, SIZE), dtype=np.uint8)
        for mask, box in zip(masks, sample.gt_instances.bboxes.int().tolist(), strict=True):
            mask[box[1] : box[3], box[0] : box[2]] = 1
        sample.gt_instances.masks = BitmapMasks(masks, SIZE, SIZE)
        corners = 24 * torch.rand(count, 2, generator=generator)
        boxes = torch.cat([corners, corners + 8 + 24 * torch.rand(count, 2, generator=generator)], dim=1)
        embeddings = normalize(torch.randn(count, D, generator=generator), dim=1).half()
        sample.regions = InstanceData(metainfo=clip_facts or CLIP_FACTS, bboxes=boxes, embeddings=embeddings)
    return inputs, samples
