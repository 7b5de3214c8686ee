"""What a map that was computed beforehand says of itself (B images, D embedding, h x w cells)."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmseg.structures import SegDataSample
from torch import Tensor

#: Under this key of its metainfo a sample has the facts of its map: ``model``, ``weights_hash``, ``mode``, ``stride``,
#: and ``normalisation``, what was done to the image.
DENSE = "dense"


def is_map(inputs: Tensor) -> bool:
    """Whether ``inputs [B, C, ., .]`` are maps and not images, which have three channels."""
    return inputs.shape[1] != 3


def check_maps(backbone: Any, inputs: Tensor, samples: Sequence[SegDataSample] | None) -> None:
    """Refuse maps that this backbone would not have given. Images pass.

    Args:
        backbone: The segmentor's, of which maps must be.
        inputs: Images ``[B, 3, H, W]`` or maps ``[B, D, h, w]``.
        samples: B samples; those of maps say where the maps come from (:data:`DENSE`).

    Raises:
        ValueError: If the inputs are maps, and the backbone is none whose maps can be cached, or one of them comes from
            another tower or mode, or does not say from which.
    """
    if not is_map(inputs):
        return
    if not callable(getattr(backbone, "identity", None)):
        raise ValueError(
            "`inputs` of a segmentor must be images [B, 3, H, W], or maps of its own DenseCLIPBackbone. "
            f"Got {list(inputs.shape)} and a {type(backbone).__name__}."
        )
    mine = backbone.identity()
    for sample in samples or [None] * len(inputs):
        facts: Mapping[str, Any] = {} if sample is None else sample.metainfo.get(DENSE) or {}
        differing = [key for key, value in mine.items() if facts.get(key) != value]
        if differing:
            sides = "; ".join(f"{key}: the map has {facts.get(key)!r}, the backbone {mine[key]!r}" for key in differing)
            raise ValueError(
                f"`inputs` of a segmentor must be images, or maps of its own backbone. Got maps with {sides}. "
                "The `backbone` of CachedMaps must be the model's."
            )
