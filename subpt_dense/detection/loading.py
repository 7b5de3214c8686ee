"""Image loading with a stated policy for files that cannot be read."""

import logging
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log

from subpt_dense.registry import TRANSFORMS

_POLICIES = ("raise", "skip")


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load an image as BGR ``[H, W, 3]`` uint8 in 0..255 (float32 with ``to_float32``), grey and CMYK files included.

    Decoding is Pillow's, which reports a truncated file where OpenCV fills in grey. As with mmcv, EXIF orientation is
    applied.

    Args:
        on_error: What to do with a file that is missing or broken: ``"raise"``, or in training ``"skip"`` (the data set
            draws another image, with one warning a file and process). A test data set refuses a skipped image.
        to_float32: Give float32.
        backend_args: Storage back end, as for ``mmcv.LoadImageFromFile``.

    Raises:
        ValueError: If ``on_error`` is another.
        RuntimeError: In ``transform``, if the file cannot be read and ``on_error="raise"``; names the file.
    """

    def __init__(self, *, on_error: str = "raise", to_float32: bool = False, backend_args: dict | None = None) -> None:
        if on_error not in _POLICIES:
            raise ValueError(
                f"`on_error` of LoadImage must be one of {', '.join(map(repr, _POLICIES))}. Got {on_error!r}."
            )
        super().__init__(
            to_float32=to_float32, color_type="color", imdecode_backend="pillow", backend_args=backend_args
        )
        self.on_error = on_error
        self._warned: set[str] = set()

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Read ``results["img_path"]``; sets ``img``, ``img_shape`` and ``ori_shape``. ``None`` for a skipped file."""
        path = str(results["img_path"])
        try:
            results = super().transform(results)
        except Exception as error:  # a decoder may raise anything: OSError, SyntaxError, struct.error, ...
            problem = f"Image {path} cannot be read: {type(error).__name__}: {error}."
            if self.on_error == "raise":
                raise RuntimeError(
                    f"{problem} Mend or remove it, or set `on_error='skip'` of LoadImage in training."
                ) from error
            if path not in self._warned:
                self._warned.add(path)
                print_log(
                    f"{problem} Skipped (`on_error='skip'` of LoadImage).", logger="current", level=logging.WARNING
                )
            return None
        results["img"] = np.ascontiguousarray(results["img"])
        return results

    def __repr__(self) -> str:
        """The arguments."""
        arguments = f"on_error={self.on_error!r}, to_float32={self.to_float32}, backend_args={self.backend_args}"
        return f"{type(self).__name__}({arguments})"
