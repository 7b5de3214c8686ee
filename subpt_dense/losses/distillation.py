"""Region embeddings drawn to the frozen image tower's (N regions, D embedding)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from subpt_dense.registry import MODELS


@MODELS.register_module()
class RegionDistillation(nn.Module):
    """``weight * mean_n sum_d |e_nd - t_nd|`` (ViLD-image, arXiv 2104.13921, section 3.3).

    The L1 distance of two unit vectors, averaged over regions. ViLD's released training writes the same number as the
    mean over regions and dimensions, times D = 512, times 0.5. The average runs over all regions of the batch, so that
    an image with more regions counts more.

    Args:
        weight: Gain, >= 0.

    Raises:
        ValueError: If ``weight`` is negative.
    """

    def __init__(self, weight: float = 0.5) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"`weight` of RegionDistillation must be >= 0. Got {weight}.")
        self.weight = weight

    def forward(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """The weighted loss, a float32 scalar in ``weight * [0, 2 sqrt(D)]``; 0, with a graph, without regions.

        Args:
            embeddings: Unit embeddings ``[N, D]`` of the image branch, with graph; N may be 0.
            targets: The image tower's embeddings ``[N, D]`` of the same regions, of any floating type. They are
                normalised here, which undoes the rounding of a cache in half precision. No gradient reaches them.

        Raises:
            ValueError: If the shapes differ, or are not ``[N, D]``.
        """
        if embeddings.ndim != 2 or embeddings.shape != targets.shape:
            raise ValueError(
                "`embeddings` and `targets` of RegionDistillation must have one shape [N, D]. "
                f"Got {list(embeddings.shape)} and {list(targets.shape)}."
            )
        with torch.autocast(embeddings.device.type, enabled=False):
            wanted = normalize(targets.detach().float(), dim=-1)
            distances = (embeddings.float() - wanted).abs().sum(dim=-1)  # [N]
            # Not mean(): without regions that is NaN, and DDP wants a gradient, zeros, for every parameter.
            return self.weight * distances.sum() / max(1, len(distances))

    def extra_repr(self) -> str:
        """For ``print``."""
        return f"weight={self.weight}"
