"""A CLIP small enough for tests: a model config registered with open_clip, and random weights on disk."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

_COUNT = itertools.count()


def tiny_config(**text: Any) -> dict[str, Any]:
    """An open_clip model config: width 32, 2 layers, 2 heads, D = 24, QuickGELU; ``text`` overrides its text part."""
    text_cfg = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2, **text}
    return {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 1},
        "text_cfg": text_cfg,
    }


def register_config(root: str | Path, config: dict[str, Any], prefix: str = "tiny-clip") -> str:
    """Write a model config under ``root`` and make it known to open_clip.

    Returns:
        The model's name, never used before in this process or another.
    """
    name = f"{prefix}-{os.getpid()}-{next(_COUNT)}"
    path = Path(root) / f"{name}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return name


def random_clip(name: str, seed: int = 0) -> torch.nn.Module:
    """A registered model in eval mode, no weight of which is zero or one (norms and biases included)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip = open_clip.create_model(name, load_weights=False)
        with torch.no_grad():
            for parameter in clip.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return clip.eval()


def write_tiny_clip(
    root: str | Path, *, seed: int = 0, suffix: str = ".safetensors", config: dict[str, Any] | None = None
) -> tuple[str, str]:
    """Register a tiny CLIP and save random weights for it.

    Args:
        root: Folder for the config and the weights; it must live as long as the process uses open_clip.
        seed: Of the weights.
        suffix: ``.safetensors`` or ``.pt``.
        config: From :func:`tiny_config`; that without overrides by default.

    Returns:
        The model's name and the path of its weights: a ``TextSpec``'s ``model`` and ``pretrained``.
    """
    name = register_config(root, config or tiny_config())
    path = Path(root) / f"{name}{suffix}"
    save_weights(path, random_clip(name, seed).state_dict())
    return name, str(path)


def save_weights(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Save tensors as safetensors or with torch, by the file's suffix."""
    state = {name: value.detach().contiguous() for name, value in state.items()}
    if path.suffix == ".safetensors":
        save_file(state, str(path))
    else:
        torch.save(state, path)
