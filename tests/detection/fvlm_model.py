"""Tiny convolutional CLIPs with random weights, and the shipped F-VLM detector shrunk to them, on random pictures."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm

from subpt_dense.detection import FVLMDetector
from subpt_dense.registry import MODELS
from tests.tiny_clip import random_clip, register_config, save_weights, tiny_config

CONFIGS = Path(__file__).parents[2] / "configs"
BASE = ("red striped star", "blue plain ring")
ALL = (*BASE, "green dotted oval")
#: Image side of the tiny towers: a grid of 3 x 3 cells of stride 32.
SIDE = 96
WIDTH = 8

VISION: dict[str, dict[str, Any]] = {
    "resnet": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": WIDTH, "patch_size": None},
    "convnext": {
        "image_size": SIDE,
        "timm_model_name": "convnext_atto",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "timm_drop_path": 0.1,
    },
}


def write_conv_clip(root: Path, kind: str, seed: int = 0) -> dict[str, str]:
    """Register a tiny CLIP and save its weights, running statistics other than a fresh network's included.

    Returns:
        ``model`` and ``pretrained``.
    """
    name = register_config(root, {**tiny_config(), "vision_cfg": VISION[kind]}, prefix=f"tiny-{kind}")
    clip = random_clip(name, seed)
    generator = torch.Generator().manual_seed(seed)
    for key, value in clip.named_buffers():
        if "running" in key:
            noise = 0.2 * torch.randn(value.shape, generator=generator)
            value.copy_(value * noise.exp() if "var" in key else noise)
    path = Path(root) / f"{name}.safetensors"
    save_weights(path, clip.state_dict())
    return {"model": name, "pretrained": str(path)}


def fvlm_config(clip: dict[str, str], head: str = "template", base: str = "fvlm_r50", **options: Any) -> Config:
    """The model part of a shipped F-VLM detector, narrower and on the given CLIP."""
    cfg = Config.fromfile(CONFIGS / f"_base_/detectors/{base}.py")
    cfg.model.prompt = Config.fromfile(CONFIGS / f"_base_/prompts/{head}.py").prompt
    small = {
        "model.language.text": dict(clip),
        "model.language.templates": "single",
        "model.language.names": {"generic": ["pink framed bar"], "heldout": [ALL[-1]]},
        "model.backbone.model": clip["model"],
        "model.backbone.pretrained": clip["pretrained"],
        "model.neck.in_channels": [WIDTH * 4 * 2**i for i in range(4)],
        "model.neck.out_channels": 16,
        "model.rpn_head.in_channels": 16,
        "model.rpn_head.feat_channels": 16,
        "model.roi_head.bbox_roi_extractor.out_channels": 16,
        "model.roi_head.bbox_head.in_channels": 16,
        "model.roi_head.bbox_head.conv_out_channels": 16,
        "model.roi_head.bbox_head.fc_out_channels": 32,
        "model.roi_head.bbox_head.cls_predictor_cfg.embed_dim": 24,
        "model.roi_head.fusion.embed_dim": 24,
        "model.train_cfg.rpn_proposal.max_per_img": 30,
        "model.test_cfg.rpn.max_per_img": 20,
        "model.test_cfg.rcnn.score_thr": 0.0,
        "model.test_cfg.rcnn.max_per_img": 100,
    }
    if "mask" in base:
        mask = {"mask_roi_extractor.out_channels": 16, "mask_head.in_channels": 16, "mask_head.conv_out_channels": 8}
        small |= {f"model.roi_head.{key}": value for key, value in mask.items()}
    cfg.merge_from_dict({**small, **options})
    return cfg.model


def build_fvlm(
    clip: dict[str, str], head: str = "template", vocabulary: tuple[str, ...] = BASE, **options: Any
) -> FVLMDetector:
    torch.manual_seed(0)
    model = MODELS.build(fvlm_config(clip, head, **options))
    model.init_weights()
    model = revert_sync_batchnorm(model)  # as the Runner does outside of distributed training
    model.set_vocabulary(vocabulary, base=BASE)
    return model
