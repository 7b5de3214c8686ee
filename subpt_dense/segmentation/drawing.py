"""One picture's class map, drawn with the names that the model goes by now (H x W pixels)."""

from pathlib import Path
from typing import Any

import numpy as np
from mmseg.structures import SegDataSample
from numpy.typing import NDArray
from PIL import Image, ImageOps

from subpt_dense.segmentation.visualizer import ClassMapVisualizer


def draw_class_map(
    model: Any,
    sample: SegDataSample,
    out_file: str | Path,
    *,
    picture: NDArray[np.uint8] | None = None,
    **options: Any,
) -> None:
    """Write a picture with the class map over it and a legend of the model's vocabulary.

    mmseg's ``show_result_pyplot`` names classes as in the model's training, whatever vocabulary was set since.

    Args:
        model: The segmentor that made the sample (``mmseg.apis.inference_model``), its vocabulary not set anew since.
        sample: Has ``pred_sem_seg``.
        out_file: Where to, such as ``drawn/street.png``; folders are made.
        picture: ``[H, W, 3]`` RGB, where the sample is not of a file.
        **options: As for :class:`subpt_dense.segmentation.ClassMapVisualizer`: ``alpha``, ``most``, ``min_side``.

    Raises:
        ValueError: If the sample is of no file and no picture is given, or it has another size than the map.
        OSError: If the file cannot be written.
    """
    path = sample.metainfo.get("img_path")
    if picture is None and path is None:
        raise ValueError(
            "`picture` of draw_class_map must be given for a sample that is not of a file. Got None: hand in the array."
        )
    drawn = read_picture(path) if picture is None else picture
    size = tuple(sample.pred_sem_seg.data.shape[-2:])
    if drawn.shape[:2] != size:
        raise ValueError(f"`picture` of draw_class_map must be as large as the map, {size}. Got {drawn.shape[:2]}.")
    visualizer = ClassMapVisualizer("class map", **options)
    visualizer.dataset_meta = {"classes": model.prompt.vocabulary}
    visualizer.add_datasample("class map", drawn, sample, draw_gt=False, out_file=str(out_file))


def read_picture(path: str | Path) -> NDArray[np.uint8]:
    """A picture file ``[H, W, 3]`` RGB, the way up that its camera says, as the pipelines read it."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
