"""Region features to embeddings in the image tower's space (N regions, C channels, D embedding, K classes)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu, softmax

from subpt_dense.heads import RowsTaker
from subpt_dense.registry import MODELS


@MODELS.register_module()
class ImageBranch(RowsTaker):
    """Fully connected layers of its own, a projection to D and unit norm (ViLD-image, arXiv 2104.13921, section 3.3).

    It learns from the image tower's embeddings alone, and classifies with the rows at test time, when they are at hand:
    a softmax over the classes, without a background. It stands beside the box head, not in its ``fc_cls``, whose
    contents mmdet builds twice and draws anew.

    Args:
        in_channels: C of a region's features.
        embed_dim: D, the length of an embedding and of a row.
        roi_feat_size: Height and width of a region's features.
        num_fcs: Hidden layers, >= 1.
        fc_channels: Their width.
        temperature: What cosines are divided by, > 0.
        init_cfg: mmengine initialisation, applied after this class's own.

    Raises:
        ValueError: If an argument is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        embed_dim: int,
        roi_feat_size: int = 7,
        num_fcs: int = 2,
        fc_channels: int = 1024,
        temperature: float = 0.01,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(embed_dim, init_cfg)
        arguments = {
            "in_channels": in_channels,
            "roi_feat_size": roi_feat_size,
            "num_fcs": num_fcs,
            "fc_channels": fc_channels,
            "temperature": temperature,
        }
        for name, value in arguments.items():
            if not value > 0:
                raise ValueError(f"`{name}` of ImageBranch must be positive. Got {value}.")
        self.temperature = temperature
        self.in_features = in_channels * roi_feat_size**2
        widths = [self.in_features, *[fc_channels] * num_fcs]
        self.fcs = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.projection = nn.Linear(fc_channels, embed_dim)
        for layer in (*self.fcs, self.projection):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def _home(self) -> torch.device:
        return self.projection.weight.device

    def forward(self, features: Tensor) -> Tensor:
        """Unit embeddings ``[N, D]`` float32 of region features.

        Args:
            features: ``[N, C, roi_feat_size, roi_feat_size]``; N may be 0.

        Raises:
            ValueError: If a region has another number of features.
        """
        x = features.flatten(1)
        if x.shape[1] != self.in_features:
            raise ValueError(
                f"`features` of ImageBranch must have {self.in_features} numbers a region, in_channels * "
                f"roi_feat_size^2. Got {list(features.shape)}."
            )
        for layer in self.fcs:
            x = relu(layer(x))
        x = self.projection(x)
        with torch.autocast(x.device.type, enabled=False):
            return normalize(x.float(), dim=-1)

    def scores(self, embeddings: Tensor) -> Tensor:
        """Class probabilities ``[N, K]`` float32 of embeddings ``[N, D]``: ``softmax(cos / temperature)``.

        Raises:
            RuntimeError: If there are no rows.
        """
        rows = self._needed_rows()
        with torch.autocast(embeddings.device.type, enabled=False):
            return softmax(embeddings.float() @ rows.float().T / self.temperature, dim=-1)
