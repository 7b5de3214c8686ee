"""Region embeddings of a frozen CLIP: parts of its last map through its own pooling.

Legend: B images, C channels and h x w cells of the last map, G cells a side of the tower's own grid, N regions, D
embedding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torchvision.ops import roi_align

from subpt_dense.detection.frozen_trunk import FrozenTrunk

#: Numbers pooled at a time (256 MB): a thousand regions of RN50x64 at once would take 3 GB.
_AT_ONCE = 2**26


@dataclass(frozen=True)
class RegionMap:
    """The last map of a batch, from which any box of it can be embedded (F-VLM, arXiv 2209.15639).

    A box is cut out by RoIAlign at the tower's own grid, G x G, for which its pooling has positions. Bins are averaged
    over as many samples as they cover cells, with half-pixel centres: the box of a whole image of the tower's own size
    gives CLIP's image embedding. (The authors sample each bin once.)

    Attributes:
        trunk: The frozen tower.
        last: ``[B, C, h, w]`` from :meth:`FrozenTrunk.maps`, of any floating dtype.
    """

    trunk: FrozenTrunk
    last: Tensor

    @torch.no_grad()
    def embed(self, rois: Tensor) -> Tensor:
        """Unit embeddings, computed in float32 under autocast too.

        Args:
            rois: ``[N, 5]``: image in the batch, then x1, y1, x2, y2 in pixels of the batch's images. N may be 0.

        Returns:
            ``[N, D]`` float32.
        """
        if not len(rois):
            return self.last.new_zeros(0, self.trunk.embed_dim, dtype=torch.float32)
        grid = self.trunk.grid
        part = max(1, _AT_ONCE // (self.last.shape[1] * grid**2))
        with torch.autocast(self.last.device.type, enabled=False):
            last = self.last.float()
            pooled = [
                self.trunk.pool(roi_align(last, boxes, grid, 1 / self.trunk.stride, sampling_ratio=0, aligned=True))
                for boxes in rois.float().split(part)
            ]
            return normalize(torch.cat(pooled), dim=1)
