"""Crops of an image, cut and resized together on its device (N boxes, n windows, H×W pixels, S crop side)."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

_CUBIC = -0.5  # the free coefficient of Pillow's and torch's bicubic filter
_WORKSPACE = 1 << 28  # bytes of rows resized at a time on a GPU
# interpolate(mode="bicubic", antialias=True) into memory that is there: without a copy it takes an eighth less time
_resize = torch.ops.aten._upsample_bicubic2d_aa.out


def crop_windows(boxes: ArrayLike, scale: float, height: int, width: int) -> NDArray[np.int64]:
    """The pixels of each box, enlarged about its centre and cut off at the image's border.

    A window reaches outward to whole pixels: it holds every pixel that the box touches.

    Args:
        boxes: ``[N, 4]``, x1 y1 x2 y2 in pixels; each has a part in the image.
        scale: Of both sides, >= 1; 1.5 takes in what is around an object (ViLD, arXiv 2104.13921, section 3.2).
        height: H.
        width: W.

    Returns:
        ``[N, 4]`` int64: left, top, right and bottom, with 0 <= left < right <= W and 0 <= top < bottom <= H.

    Raises:
        ValueError: If ``scale`` is below 1, or a box is empty, not finite or outside the image; names the box.
    """
    if not 1 <= scale < float("inf"):
        raise ValueError(f"`scale` of crop_windows must be at least 1. Got {scale}.")
    exact = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    centre, half = (exact[:, 2:] + exact[:, :2]) / 2, (exact[:, 2:] - exact[:, :2]) / 2 * scale
    size = (width, height)
    with np.errstate(invalid="ignore"):
        inside = (exact[:, :2] < size) & (exact[:, 2:] > 0) & (half > 0) & np.isfinite(half) & np.isfinite(centre)
    if not inside.all():
        box = exact[int((~inside).any(1).argmax())].tolist()
        raise ValueError(
            f"Every box must be x1 < x2, y1 < y2 and have a part inside its image of {width}x{height}. Got {box}."
        )
    first, last = np.floor(centre - half), np.ceil(centre + half)
    return np.concatenate([np.clip(first, 0, None), np.clip(last, None, size)], axis=1).astype(np.int64)


def crop_and_resize(image: Tensor, windows: ArrayLike, size: int, *, out: Tensor | None = None) -> Tensor:
    """Cut windows out of an image and resize each to a square, as Pillow's ``crop`` and bicubic ``resize`` do.

    On the CPU torch's antialiased resize of uint8 does it window by window; elsewhere all windows are resized at once,
    by two products with matrices. Both stay within 2 grey levels of Pillow that resizes across, then down. Recent
    versions of Pillow go down first where that is cheaper, which differs by more at hard edges, where the first pass
    is clipped.

    Args:
        image: uint8 ``[3, H, W]``; fastest on the CPU where the channels lie side by side in memory.
        windows: ``[n, 4]`` whole numbers, left, top, right and bottom, inside the image.
        size: S.
        out: uint8 ``[n, 3, S, S]`` on the CPU, channels side by side, to be written and returned; not used elsewhere.

    Returns:
        uint8 ``[n, 3, S, S]`` on the image's device.

    Raises:
        ValueError: If ``out`` is of another shape or layout.
    """
    rows = np.asarray(windows, dtype=np.int64).reshape(-1, 4)
    if image.device.type == "cpu":
        shape = (len(rows), 3, size, size)
        crops = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last) if out is None else out
        if crops.shape != shape or not crops.is_contiguous(memory_format=torch.channels_last):
            raise ValueError(f"`out` of crop_and_resize must be of shape {list(shape)}. Got {list(crops.shape)}.")
        _resize_each(image, rows, crops)
        return crops
    height = image.shape[1]
    at_once = max(1, _WORKSPACE // (12 * height * size))
    parts = [resize_together(image, rows[at : at + at_once], size) for at in range(0, len(rows), at_once)]
    return torch.cat(parts) if parts else image.new_zeros(0, 3, size, size)


def _resize_each(image: Tensor, windows: NDArray[np.int64], crops: Tensor) -> None:
    size, pixels = list(crops.shape[2:]), image.permute(1, 2, 0).numpy()
    places = crops.split(1) if len(crops) else ()
    for crop, (left, top, right, bottom) in zip(places, windows.tolist(), strict=True):
        # Whole copies of windows with the channels last in memory: for anything else torch takes a slow way.
        window = torch.from_numpy(pixels[None, top:bottom, left:right].copy()).permute(0, 3, 1, 2)
        _resize(window, size, align_corners=False, scales_h=None, scales_w=None, out=crop)


def resize_together(image: Tensor, windows: ArrayLike, size: int) -> Tensor:
    """:func:`crop_and_resize` by matrices, on any device: every row of the image times each window's filter, rounded
    to uint8 as Pillow does, then every column.

    Args:
        image: uint8 ``[3, H, W]``.
        windows: ``[n, 4]``.
        size: S.

    Returns:
        uint8 ``[n, 3, S, S]``.
    """
    edges = torch.as_tensor(np.asarray(windows, dtype=np.int64).reshape(-1, 4)).to(image.device)
    left, top, right, bottom = edges.float().unbind(1)
    _, height, width = image.shape
    across = _filters(left, right, width, size)  # [n, S, W]
    down = _filters(top, bottom, height, size)  # [n, S, H]
    rows = _grey(torch.einsum("chw,nsw->nchs", image.float(), across))  # [n, 3, H, S]
    return _grey(torch.einsum("nth,nchs->ncts", down, rows)).to(torch.uint8)


def _filters(start: Tensor, end: Tensor, length: int, size: int) -> Tensor:
    """Bicubic weights ``[n, S, length]`` that resize ``length`` pixels, of which ``start`` to ``end`` count, to S."""
    steps = torch.arange(size, device=start.device) + 0.5
    pixels = torch.arange(length, device=start.device)
    ratio = (end - start) / size
    centres = start[:, None] + steps * ratio[:, None]  # [n, S]
    distances = (pixels + 0.5 - centres[:, :, None]) / ratio.clamp(min=1)[:, None, None]
    counts = (pixels >= start[:, None]) & (pixels < end[:, None])  # [n, length]
    weights = _bicubic(distances) * counts[:, None]
    return weights / weights.sum(-1, keepdim=True)


def _bicubic(distance: Tensor) -> Tensor:
    """Keys' kernel; zero from 2 on."""
    x, a = distance.abs(), _CUBIC
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _grey(values: Tensor) -> Tensor:
    return (values + 0.5).floor().clamp(0, 255)
