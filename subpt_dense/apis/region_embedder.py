"""The CLIP embeddings of an image's regions (N boxes, D embedding, H×W pixels, S crop side)."""

from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import normalize

from subpt_dense.apis.region_crops import crop_and_resize, crop_windows
from subpt_dense.classification.image_tower import ImageTower


class RegionEmbedder:
    """Crops of every scale through the frozen tower, added up and normalised (ViLD, arXiv 2104.13921, section 3.2).

    Args:
        tower: Embeds the crops.
        device: Where it is, and where crops are cut.
        scales: Crops of each box, about its centre; each >= 1.
        batch_size: Crops at a time; an embedding's last bits depend on it.

    Raises:
        ValueError: If there is no scale, one is below 1, or ``batch_size`` is not positive.
    """

    def __init__(
        self,
        tower: ImageTower,
        device: torch.device | str = "cpu",
        *,
        scales: Sequence[float] = (1.0, 1.5),
        batch_size: int = 64,
    ) -> None:
        if not scales or not all(1 <= scale < float("inf") for scale in scales):
            raise ValueError(f"`scales` of RegionEmbedder must be numbers of at least 1. Got {list(scales)}.")
        if batch_size < 1:
            raise ValueError(f"`batch_size` of RegionEmbedder must be at least 1. Got {batch_size}.")
        self.tower, self.device = tower, torch.device(device)
        self.scales, self.batch_size = tuple(scales), batch_size
        # Memory that is written anew for every batch: fresh pages would cost a third of the time.
        shape = (batch_size, 3, tower.size, tower.size)
        self._crops = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)

    def __call__(self, image: Tensor, boxes: ArrayLike) -> Tensor:
        """The embeddings of an image's regions.

        Args:
            image: uint8 RGB ``[3, H, W]``.
            boxes: ``[N, 4]``, x1 y1 x2 y2 in pixels.

        Returns:
            Unit embeddings ``[N, D]`` on the CPU.

        Raises:
            ValueError: If a box has no part in the image.
        """
        image = image.to(self.device)
        _, height, width = image.shape
        scaled = [crop_windows(boxes, scale, height, width) for scale in self.scales]
        total = torch.zeros(len(scaled[0]), self.tower.embed_dim, device=self.device)
        for windows in scaled:
            for at in range(0, len(windows), self.batch_size):
                batch = windows[at : at + self.batch_size]
                crops = crop_and_resize(image, batch, self.tower.size, out=self._crops[: len(batch)])
                total[at : at + len(batch)] += self.tower.encode(crops)
        return normalize(total, dim=1).cpu()
