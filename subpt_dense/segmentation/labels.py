"""Label maps as files have them, to labels of the running classes (H x W pixels, K classes)."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from numpy.typing import NDArray
from PIL import Image

from subpt_dense.registry import TRANSFORMS

_POLICIES = ("keep", "skip")
#: What a 16-bit map may have for ignored pixels besides the data set's `ignore_index`.
_IGNORED_16 = 65535
#: Pillow's modes of one number a pixel; "P" gives the index, not the colour.
_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


@TRANSFORMS.register_module()
class LoadLabels(BaseTransform):
    """Load a label map: 8 or 16 bits, grey or palette (PNG or TIFF), as the labels of the data set's classes.

    Takes the place of ``mmseg.LoadAnnotations``, which cuts labels to 8 bits, takes colours for labels, and lets any
    number pass. Sets ``gt_seg_map`` ``[H, W]`` (uint8, or uint16 where the ignored label needs it), and adds it to
    ``seg_fields``. In this order: with ``reduce_zero_label`` of the data set, 0 becomes ignored and every other number
    one less; then ``label_map`` of the data set says which label each number has. A map without any labelled pixel is
    kept: a pixel loss is zero for it, and in testing it counts for nothing.

    Args:
        on_empty: What to do with a map without a labelled pixel: ``"keep"``, or in training ``"skip"`` (the data set
            draws another image), as zsseg's data has it.
        backend_args: Storage back end, as for ``mmengine.fileio.get``.

    Raises:
        ValueError: If ``on_empty`` is another; in ``transform``, naming the file, if it is empty or no image, has
            colours or fractions for numbers, another size than its image, or a number that is no class.
        FileNotFoundError: In ``transform``, if there is no such file.
    """

    def __init__(self, *, on_empty: str = "keep", backend_args: dict | None = None) -> None:
        if on_empty not in _POLICIES:
            raise ValueError(
                f"`on_empty` of LoadLabels must be one of {', '.join(map(repr, _POLICIES))}. Got {on_empty!r}."
            )
        self.on_empty, self.backend_args = on_empty, backend_args
        self._lookup: tuple[Mapping[int, int] | None, NDArray[np.int32]] = (None, np.zeros(0, dtype=np.int32))

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Read ``results["seg_map_path"]``. ``None`` for a skipped map.

        Args:
            results: ``seg_map_path``; of the data set, where it has them, ``label_map`` (number to label),
                ``reduce_zero_label``, ``ignore_index`` (255) and ``ignored_label``, what the former becomes (by default
                the same); of the image, where it is loaded, ``ori_shape``.
        """
        path = str(results["seg_map_path"])
        ignore = int(results.get("ignore_index", 255))
        values = self._read(path)  # [H, W]
        size = results.get("ori_shape")
        if size is not None and tuple(size[:2]) != values.shape:
            raise ValueError(
                f"Label map {path} must have the size of its image, {size[0]} x {size[1]} (height x width). Got "
                f"{values.shape[0]} x {values.shape[1]}."
            )
        ignored = int(results.get("ignored_label", ignore))
        labels = self._relabel(values, results, ignore, ignored, path)
        if self.on_empty == "skip" and (labels == ignored).all():
            return None
        results["gt_seg_map"] = labels
        results.setdefault("seg_fields", []).append("gt_seg_map")
        return results

    def _read(self, path: str) -> NDArray[np.int32]:
        """The numbers in the file ``[H, W]``; 65535 of a 16-bit map is -1."""
        try:
            content = fileio.get(path, backend_args=self.backend_args)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"Label map {path} does not exist. data/README.md says what makes it.") from error
        if not content:
            raise ValueError(f"Label map {path} must be an image. Got an empty file: make it again.")
        try:
            with Image.open(io.BytesIO(content)) as image:
                mode = image.mode
                values = np.array(image)
        except Exception as error:  # a decoder may raise anything: OSError, SyntaxError, struct.error, ...
            raise ValueError(
                f"Label map {path} must be an image. Got {type(error).__name__}: {error}. Make it again."
            ) from error
        if mode not in _MODES or values.ndim != 2:
            raise ValueError(
                f"Label map {path} must hold one number a pixel (grey or palette, 8 or 16 bits). Got mode {mode!r}: "
                "colours say nothing of classes."
            )
        numbers: NDArray[np.int32] = values.astype(np.int32)
        if mode.startswith("I"):
            numbers[numbers == _IGNORED_16] = -1
        return numbers

    def _relabel(
        self, values: NDArray[np.int32], results: Mapping[str, Any], ignore: int, ignored_label: int, path: str
    ) -> Any:
        """Labels ``[H, W]`` of the numbers in the file."""
        ignored = (values == -1) | (values == ignore)
        if results.get("reduce_zero_label"):
            ignored |= values == 0
            values = values - 1
        values = np.where(ignored, 0, values)
        label_map = results.get("label_map")
        if label_map is not None:
            lookup = self._table(label_map)
            wrong = ~ignored & ((values < 0) | (values >= len(lookup)) | (lookup[values.clip(0, len(lookup) - 1)] < 0))
            if wrong.any():
                shift = int(bool(results.get("reduce_zero_label")))
                found = ", ".join(str(number + shift) for number in np.unique(values[wrong])[:5])
                raise ValueError(
                    f"Label map {path} must hold numbers of the data set's {len(label_map)} classes ({shift} to "
                    f"{max(label_map) + shift}) or {ignore}, ignored. Got {found}: it is of another data set, or has "
                    "not been converted (tools/prepare_data.py)."
                )
            values = lookup[np.where(ignored, 0, values)]
        labels = np.where(ignored, ignored_label, values)
        return labels.astype(np.uint8 if ignored_label <= 255 else np.uint16)

    def _table(self, label_map: Mapping[int, int]) -> NDArray[np.int32]:
        """``label_map`` as an array, -1 where it has no label; made once for a data set."""
        source, table = self._lookup
        if source is not label_map:
            table = np.full(max(label_map) + 1, -1, dtype=np.int32)
            table[list(label_map)] = list(label_map.values())
            self._lookup = label_map, table
        return table

    def __repr__(self) -> str:
        """The arguments."""
        return f"{type(self).__name__}(on_empty={self.on_empty!r}, backend_args={self.backend_args})"
