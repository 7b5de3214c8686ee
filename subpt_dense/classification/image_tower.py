"""CLIP's frozen image tower, loaded once a process, outside every module tree (B images, S pixels, D embedding)."""

import hashlib
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.nn.functional import normalize

from subpt_dense.text import TextSpec
from subpt_dense.text.weights import check_model, resolve_weights

_TOWERS: dict[tuple[str, str, int, int, str, torch.device], "ImageTower"] = {}


class ImageTower:
    """The image half of an open_clip model, frozen. No module: it must enter no checkpoint and no EMA copy.

    Attributes:
        size: S, the side of the images it takes.
        embed_dim: D.
        scale: ``exp(logit_scale)``, what cosines are multiplied by.
        weights_hash: SHA-256 of the image weights as they are computed with.
    """

    def __init__(self, clip: Any, embed_dim: int, dtype: torch.dtype = torch.float32) -> None:
        facts = open_clip.get_model_preprocess_cfg(clip)
        self._visual = clip.visual.eval().requires_grad_(False)
        self._dtype = dtype
        device, shape = next(self._visual.parameters()).device, (1, 3, 1, 1)
        self._mean = torch.tensor(facts["mean"], device=device).view(shape)
        self._std = torch.tensor(facts["std"], device=device).view(shape)
        size = facts["size"]
        self.size: int = size[0] if isinstance(size, (tuple, list)) else size
        self.embed_dim = embed_dim
        self.scale = clip.logit_scale.detach().float().exp().item()
        self.weights_hash = _digest(self._visual)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Unit features ``[B, D]`` float32.

        Args:
            images: uint8 RGB ``[B, 3, S, S]``, normalised here by the model's own mean and deviation.

        Raises:
            ValueError: If the images are of another type or size.
        """
        expected = [3, self.size, self.size]
        if images.dtype != torch.uint8 or list(images.shape[1:]) != expected:
            raise ValueError(
                f"`images` of the image tower must be uint8 of shape [B, {', '.join(map(str, expected))}]. "
                f"Got {images.dtype} {list(images.shape)}: set the pipeline's `size` to {self.size}."
            )
        with torch.autocast(images.device.type, enabled=False):
            normed = (images.to(self._mean.device).float() / 255 - self._mean) / self._std
            if not len(normed):
                return normed.new_zeros(0, self.embed_dim)
            return normalize(self._visual(normed.to(self._dtype)).float(), dim=-1)


def get_image_tower(spec: TextSpec, device: torch.device | str = "cpu") -> ImageTower:
    """The tower of a CLIP on a device, in the spec's precision; loaded at most once a process and weights file.

    Raises:
        FileNotFoundError, RuntimeError, ValueError: As for the text tower of the same spec.
    """
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    check_model(spec.model)
    path = resolve_weights(spec)
    stat = path.stat()
    key = (spec.model, str(path.resolve()), stat.st_size, stat.st_mtime_ns, spec.precision, device)
    if key not in _TOWERS:
        with torch.inference_mode(False), torch.random.fork_rng(devices=()):  # building a model draws numbers
            clip = open_clip.create_model(
                spec.model, pretrained=str(path), precision=spec.precision, device=device, require_pretrained=True
            )
            _TOWERS[key] = ImageTower(clip, open_clip.get_model_config(spec.model)["embed_dim"], spec.dtype)
    return _TOWERS[key]


def _digest(module: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(
            value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
        )
    return digest.hexdigest()
