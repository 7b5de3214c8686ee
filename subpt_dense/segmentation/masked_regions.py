"""What a frozen CLIP sees in the regions of an image.

Legend: Q masks, R regions (masks with a pixel), H x W pixels, S the tower's image side, D embedding.
"""

from collections.abc import Sequence

import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from subpt_dense.vision import get_dense_tower, load_dense_tower

_CLIP_MEAN, _CLIP_STD = ([255 * value for value in facts] for facts in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))


def masked_crops(image: Tensor, masks: Tensor, size: int) -> Tensor:
    """Cut each mask's bounding box out of an image, empty it outside of the mask, and resize it to a square.

    As zsseg has it (arXiv 2112.14757, section 3.2): what is outside takes the mean colour, the box is not enlarged, its
    aspect is not kept, and the resize is bicubic without antialiasing.

    Args:
        image: ``[3, H, W]``, normalised by the CLIP's mean and deviation: the mean colour is 0.
        masks: bool ``[R, H, W]``, each with at least one pixel; R may be 0.
        size: S.

    Returns:
        ``[R, 3, S, S]``.
    """
    crops = [image.new_zeros(0, 3, size, size)]
    for mask, (left, top, right, bottom) in zip(masks, bounding_boxes(masks).tolist(), strict=True):
        window = image[:, top:bottom, left:right] * mask[top:bottom, left:right]
        crops.append(interpolate(window[None], size=(size, size), mode="bicubic", align_corners=False))
    return torch.cat(crops)


def bounding_boxes(masks: Tensor) -> Tensor:
    """Left, top, right and bottom (the last two exclusive), int64 ``[R, 4]``, of bool ``[R, H, W]`` with pixels."""
    spans = []
    for across in (1, 2):  # over the rows for left and right, over the columns for top and bottom
        inside = masks.any(dim=across).int()  # [R, W], then [R, H]
        spans.append((inside.argmax(1), inside.shape[1] - inside.flip(1).argmax(1)))
    (left, right), (top, bottom) = spans
    return torch.stack([left, top, right, bottom], dim=1)


class MaskedRegions:
    """Embeds the regions of an image with a frozen CLIP, as many at a time as memory is to be spent on.

    No module: the tower is found by key, enters no checkpoint and follows the images to their device.

    Args:
        model: An open_clip model name.
        pretrained: One of its tags, or the path of a weights file.
        mean, std: What the images have been normalised with, RGB in 0..255: the data preprocessor's. By default that is
            what the CLIP wants, and they are taken as they are.
        clip_mean, clip_std: What the CLIP wants, where the images come otherwise; by default as OpenAI's.
        threshold: A pixel belongs to a region where the mask's probability is above this, in [0, 1).
        batch: Regions encoded at a time, >= 1.

    Raises:
        FileNotFoundError, RuntimeError: If the weights cannot be had.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        model: str,
        pretrained: str,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        clip_mean: Sequence[float] = _CLIP_MEAN,
        clip_std: Sequence[float] = _CLIP_STD,
        threshold: float = 0.5,
        batch: int = 32,
    ) -> None:
        if (mean is None) != (std is None):
            raise ValueError("`mean` and `std` of MaskedRegions must be given together, as to the data preprocessor.")
        if not 0 <= threshold < 1:
            raise ValueError(f"`threshold` of MaskedRegions must be in [0, 1). Got {threshold}.")
        if batch < 1:
            raise ValueError(f"`batch` of MaskedRegions must be at least 1. Got {batch}.")
        self.key = load_dense_tower(model, pretrained)
        tower = get_dense_tower(self.key, "cpu")
        self.embed_dim, self.size, self.text_hash = tower.embed_dim, tower.size, tower.text_hash
        self.threshold, self.batch = threshold, batch
        # what CLIP wants = image * gain + shift, channel by channel
        self._gain, self._shift = torch.ones(3, 1, 1), torch.zeros(3, 1, 1)
        if mean is not None and std is not None:
            wanted = torch.tensor([list(clip_mean), list(clip_std)])[..., None, None]
            self._gain = torch.tensor(list(std))[:, None, None] / wanted[1]
            self._shift = (torch.tensor(list(mean))[:, None, None] - wanted[0]) / wanted[1]

    @torch.no_grad()
    def __call__(self, image: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Embed what is inside each mask.

        Args:
            image: ``[3, H, W]``, normalised.
            masks: Probabilities ``[Q, H, W]``.

        Returns:
            Unit embeddings ``[R, D]`` float32 in the order of the masks, computed in float32 under autocast too; and
            which masks they are of, bool ``[Q]``: one without a pixel has none.
        """
        tower = get_dense_tower(self.key, image.device)
        with torch.autocast(image.device.type, enabled=False):
            image = image.float() * self._gain.to(image.device) + self._shift.to(image.device)
            inside = masks > self.threshold
            found = inside.flatten(1).any(dim=1)
            parts = [
                normalize(tower.encode(masked_crops(image, part, self.size)).float(), dim=1)
                for part in inside[found].split(self.batch)
            ]
            return torch.cat([image.new_zeros(0, self.embed_dim), *parts]), found
