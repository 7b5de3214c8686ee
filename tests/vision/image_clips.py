"""Tiny CLIPs with every kind of image tower that is read cell by cell, random weights, none of them zero or one."""

from pathlib import Path
from typing import Any

import torch

from tests.tiny_clip import random_clip, register_config, save_weights, tiny_config

#: Towers of 64 x 64 pixels. The transformer's grid is 4 x 4, its heads are 2 of 16.
VISION: dict[str, dict[str, Any]] = {
    "transformer": {"image_size": 64, "patch_size": 16, "width": 32, "head_width": 16, "layers": 3},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "convnext": {
        "image_size": 64,
        "timm_model_name": "convnext_atto",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
    },
}


def write_image_clip(root: Path, kind: str, seed: int = 0, **vision: Any) -> dict[str, str]:
    """Register a tiny CLIP and save its weights, running statistics other than a fresh network's included.

    Returns:
        ``model`` and ``pretrained``.
    """
    name = register_config(root, {**tiny_config(), "vision_cfg": VISION[kind] | vision}, prefix=f"image-{kind}")
    clip = random_clip(name, seed)
    generator = torch.Generator().manual_seed(seed)
    for key, value in clip.named_buffers():
        if "running" in key:
            noise = 0.2 * torch.randn(value.shape, generator=generator)
            value.copy_(value * noise.exp() if "var" in key else noise)
    path = Path(root) / f"{name}.safetensors"
    save_weights(path, clip.state_dict())
    return {"model": name, "pretrained": str(path)}


def pictures(count: int, height: int = 64, width: int | None = None, seed: int = 0) -> torch.Tensor:
    """Normalised random images."""
    return torch.randn(count, 3, height, width or height, generator=torch.Generator().manual_seed(seed))
