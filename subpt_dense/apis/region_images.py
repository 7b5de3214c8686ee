"""The images of a proposal list, read ahead by a data loader's workers (H×W pixels)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from subpt_dense.datasets.proposals import Proposals


class RegionImages(Dataset):
    """Images by position: uint8 RGB ``[3, H, W]``, channels side by side in memory.

    Like the detectors' own loading it applies a rotation noted in EXIF.

    Args:
        folder: Of the images.
        files: Relative to the folder.
        sizes: ``[I, 2]``, the width and height that the annotation file states.
    """

    def __init__(self, folder: str | Path, files: Sequence[str], sizes: np.ndarray) -> None:
        self._folder, self._files, self._sizes = Path(folder), files, sizes

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, position: int) -> Tensor:
        """The image at a position.

        Raises:
            ValueError: If it cannot be read, or is not of the size stated; names the file.
        """
        path = self._folder / self._files[position]
        try:
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file).convert("RGB")
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"The image {path} cannot be read: {error}. Fetch it again.") from error
        stated = tuple(self._sizes[position].tolist())
        if image.size != stated:
            raise ValueError(
                f"The image {path} must be {stated[0]}x{stated[1]} pixels, as the annotation file says. It is "
                f"{image.size[0]}x{image.size[1]}: its boxes would be cut out elsewhere."
            )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def read_ahead(images: RegionImages, positions: Sequence[int], workers: int) -> Iterator[tuple[int, Tensor]]:
    """(position, image) in the order of ``positions``, read by so many processes; by this one with 0."""
    loader = DataLoader(images, batch_size=None, sampler=positions, num_workers=min(workers, len(positions)))
    yield from zip(positions, loader, strict=True)


def require_images(folder: str | Path, proposals: Proposals) -> None:
    """Check that every image with a region is there, before anything is computed.

    Raises:
        FileNotFoundError: If some are missing; names the first of them and says how many.
    """
    counts = np.diff(proposals.offsets)
    missing = [f for f, n in zip(proposals.files, counts, strict=True) if n and not (Path(folder) / f).is_file()]
    if missing:
        raise FileNotFoundError(
            f"`images` must be the folder of the annotation file's images. {folder} lacks {', '.join(missing[:5])} "
            f"({len(missing)} of {int((counts > 0).sum())} images with regions)."
        )
