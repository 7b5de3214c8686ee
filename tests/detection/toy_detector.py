"""The toy detector of the shipped config on random pictures."""

import copy
from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from subpt_dense.detection import OVTwoStageDetector
from subpt_dense.registry import MODELS

CONFIGS = Path(__file__).parents[2] / "configs"
BASE = ("red striped star", "blue plain ring")
ALL = (*BASE, "green dotted oval")


def detector_config(clip: Path, head: str = "template", **options: Any) -> Config:
    """The model part of ``ovd_toy_<head>.py`` on the given tiny CLIP."""
    cfg = Config.fromfile(CONFIGS / f"ovd_toy_{head}.py")
    lists = {"generic": ["pink framed bar"], "heldout": [ALL[-1]]}
    paths = {
        "model.language.text.pretrained": str(clip),
        "model.backbone.pretrained": str(clip),
        "model.language.names": lists,
        "model.test_cfg.rcnn.score_thr": 0.0,
    }
    cfg.merge_from_dict({**paths, **options})
    return cfg.model


def build_detector(
    clip: Path, head: str = "template", vocabulary: tuple[str, ...] = BASE, **options: Any
) -> OVTwoStageDetector:
    torch.manual_seed(0)
    model = MODELS.build(detector_config(clip, head, **options))
    model.init_weights()
    model.set_vocabulary(vocabulary)
    return model


def batch(labels: tuple[int, ...] = (0, 1), images: int = 2) -> tuple[torch.Tensor, list[DetDataSample]]:
    """Normalised random pictures, each with one box a label."""
    generator, size = torch.Generator().manual_seed(1), 64
    inputs = torch.randn(images, 3, size, size, generator=generator)
    sample = DetDataSample(metainfo={"img_shape": (size, size), "ori_shape": (size, size), "scale_factor": (1.0, 1.0)})
    sample.set_metainfo({"batch_input_shape": (size, size), "pad_shape": (size, size)})
    corners = torch.tensor([[4.0 + 20 * i, 6.0, 30.0 + 20 * i, 40.0] for i in range(len(labels))]).reshape(-1, 4)
    sample.gt_instances = InstanceData(bboxes=corners, labels=torch.tensor(labels, dtype=torch.long))
    return inputs, [copy.deepcopy(sample) for _ in range(images)]
