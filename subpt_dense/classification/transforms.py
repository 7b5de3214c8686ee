"""From an image file to what the image tower takes: uint8 RGB ``[3, S, S]`` (S pixels). The tower normalises.

Steps take and give the dict of a data item; the picture stands in it under ``img``, a PIL image.
"""

from typing import Any

from PIL import Image, UnidentifiedImageError
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
)
from torchvision.transforms.functional import pil_to_tensor

from subpt_dense.registry import TRANSFORMS

_BICUBIC = InterpolationMode.BICUBIC


@TRANSFORMS.register_module()
class LoadImageRGB:
    """Reads ``img_path`` into ``img``: RGB, whatever the file holds (grey, CMYK, palette; transparency is dropped).

    A rotation noted in EXIF is ignored, as CLIP's own preprocessing and CoOp ignore it.
    """

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """The item with ``img``.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it cannot be read as an image; names it.
        """
        path = item["img_path"]
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except FileNotFoundError:
            raise FileNotFoundError(f"The image {path} does not exist.") from None
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"The image {path} cannot be read: {error}. Fetch it again.") from error
        return item | {"img": image}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@TRANSFORMS.register_module()
class CLIPCrop:
    """The shorter side to ``size`` pixels, bicubic, then the square in the middle: CLIP's own preprocessing.

    Args:
        size: S; the image tower's.
    """

    def __init__(self, size: int) -> None:
        self.size = _checked(size, "CLIPCrop")
        self._steps = Compose([Resize(size, _BICUBIC), CenterCrop(size)])

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """The item with ``img`` of size S × S."""
        return item | {"img": self._steps(item["img"])}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, interpolation=bicubic)"


@TRANSFORMS.register_module()
class CLIPAugment:
    """A random part of the picture, bicubic to ``size`` pixels, mirrored by chance: CoOp's training (arXiv 2109.01134).

    Draws from torch's global generator.

    Args:
        size: S; the image tower's.
        scale: Smallest and largest share of the picture's area.
        flip: Chance of mirroring.
    """

    def __init__(self, size: int, scale: tuple[float, float] = (0.08, 1.0), flip: float = 0.5) -> None:
        self.size = _checked(size, "CLIPAugment")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"`scale` of CLIPAugment must be two ascending numbers in (0, 1]. Got {scale!r}.")
        if not 0 <= flip <= 1:
            raise ValueError(f"`flip` of CLIPAugment must be in [0, 1]. Got {flip!r}.")
        self.scale = (float(scale[0]), float(scale[1]))
        self.flip = float(flip)
        crop = RandomResizedCrop(size, scale=self.scale, interpolation=_BICUBIC)
        self._steps = Compose([crop, RandomHorizontalFlip(self.flip)])

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """The item with ``img`` of size S × S."""
        return item | {"img": self._steps(item["img"])}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, scale={self.scale}, flip={self.flip}, interpolation=bicubic)"


@TRANSFORMS.register_module()
class PackImage:
    """Leaves what the model takes: ``inputs`` (uint8 ``[3, S, S]``), ``label`` and ``index``."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """A new item."""
        return {"inputs": pil_to_tensor(item["img"]), "label": item["gt_label"], "index": item["sample_idx"]}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _checked(size: int, owner: str) -> int:
    if type(size) is not int or size < 1:
        raise ValueError(f"`size` of {owner} must be a positive integer. Got {size!r}.")
    return size
