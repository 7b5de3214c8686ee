"""Class maps over pictures, with a legend that can be read (H x W pixels, K classes)."""

import colorsys
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib.font_manager
import numpy as np
from mmengine.dist import master_only
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from subpt_dense.registry import VISUALIZERS

_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_TEXT, _GAP = 18, 8  # pixels
_COLOURS = ("distinct", "palette")

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]


def distinct_colours(count: int) -> list[Colour]:
    """``count`` RGB colours, neighbours in the list far apart: hues in steps of a golden angle, in three shades."""
    shades = ((0.85, 1.0), (0.55, 0.95), (0.95, 0.65))
    hues = [(i // 3 * 0.6180339887498949 + i % 3 * 0.4 + 0.03) % 1 for i in range(count)]
    found = [colorsys.hsv_to_rgb(hue, *shades[i % 3]) for i, hue in enumerate(hues)]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in found]


@VISUALIZERS.register_module()
class ClassMapVisualizer(SegLocalVisualizer):
    """mmseg's visualizer with ground truth left, prediction right, and the names of the classes in them below.

    The legend lists the classes that either map has, largest first, each with its colour; unseen ones are marked, and
    of those beyond ``most`` it says how many there are. Names are in DejaVu Sans (Latin, Greek, Cyrillic). Ignored
    pixels are left as they are, darkened. (mmseg's own class writes names over the map, in letters that shrink with the
    picture; given ``classes`` and ``palette``, its constructor swaps them, which is why they come from the data set
    alone here.)

    Args:
        name: mmengine's name of the instance.
        min_side: Pictures with a shorter side are enlarged to it in pixels.
        alpha: How much of a colour covers the picture, in (0, 1].
        most: Classes in a legend, >= 1.
        colours: ``"distinct"``: colours that can be told apart; ``"palette"``: the data set's own.
        **kwargs: As for ``mmengine.Visualizer``: ``vis_backends``, ``save_dir``.

    Raises:
        ValueError: If ``alpha``, ``most`` or ``colours`` is another.
    """

    def __init__(
        self,
        name: str = "visualizer",
        *,
        min_side: int = 480,
        alpha: float = 0.6,
        most: int = 30,
        colours: str = "distinct",
        **kwargs: Any,
    ) -> None:
        if not 0 < alpha <= 1:
            raise ValueError(f"`alpha` of ClassMapVisualizer must be in (0, 1]. Got {alpha}.")
        if most < 1:
            raise ValueError(f"`most` of ClassMapVisualizer must be at least 1. Got {most}.")
        if colours not in _COLOURS:
            allowed = ", ".join(map(repr, _COLOURS))
            raise ValueError(f"`colours` of ClassMapVisualizer must be one of {allowed}. Got {colours!r}.")
        self.min_side, self.most, self.colours = min_side, most, colours
        super().__init__(name, alpha=alpha, **kwargs)

    @property
    def dataset_meta(self) -> dict[str, Any]:
        """The data set's metainfo, its ``palette`` as asked for."""
        return self._meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict[str, Any] | None) -> None:
        meta = dict(meta or {})
        count = len(meta.get("classes", ()))
        if self.colours == "distinct" or len(meta.get("palette", ())) != count:
            meta["palette"] = distinct_colours(count)
        self._meta = meta

    @master_only
    def add_datasample(
        self,
        name: str,
        image: Picture,
        data_sample: SegDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
        with_labels: bool = True,
    ) -> None:
        """Draw one picture ``[H, W, 3]`` RGB with its maps; arguments as for mmseg's.

        Args:
            out_file: Folders are made; None: to the back ends.
            with_labels: Whether the legend is drawn.

        Raises:
            OSError: If ``out_file`` cannot be written.
        """
        image = self._enlarge(image)
        wanted = [("truth", "gt_sem_seg")] * draw_gt + [("prediction", "pred_sem_seg")] * draw_pred
        found = [(title, key) for title, key in wanted if data_sample is not None and key in data_sample]
        maps = [_as_large(getattr(data_sample, key).data, image) for _, key in found]
        panels = [self._overlay(image, labels) for labels in maps] or [image]
        titles = [title for title, _ in found] or [name]
        drawn = np.concatenate([_titled(*pair) for pair in zip(panels, titles, strict=True)], axis=1)
        if with_labels and maps:
            drawn = np.concatenate([drawn, self._legend(maps, drawn.shape[1])], axis=0)
        self.set_image(drawn)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            Path(out_file).parent.mkdir(parents=True, exist_ok=True)
            try:
                written = cv2.imwrite(out_file, drawn[..., ::-1])
            except cv2.error:  # of a suffix that it does not know
                written = False
            if not written:
                raise OSError(
                    f"`out_file` of ClassMapVisualizer must be a picture file that can be written. Got {out_file}."
                )
        elif not show:
            self.add_image(name, drawn, step)

    def _enlarge(self, image: Picture) -> Picture:
        factor = self.min_side / min(image.shape[:2])
        return image if factor <= 1 else cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)

    def _overlay(self, image: Picture, labels: NDArray[np.int64]) -> Picture:
        palette = np.array(self._meta["palette"], dtype=np.float32).reshape(-1, 3)
        known = (labels >= 0) & (labels < len(palette))
        colours = np.zeros(image.shape, dtype=np.float32)
        colours[known] = palette[labels[known]]
        alpha = np.where(known, self.alpha, 0.5)[..., None]  # where nothing is known, darker
        return (image * (1 - alpha) + colours * alpha).astype(np.uint8)

    def _legend(self, maps: Sequence[NDArray[np.int64]], width: int) -> Picture:
        names, unseen = self._meta["classes"], set(self._meta.get("novel_classes", ()))
        ids, counts = np.unique(np.concatenate([labels.ravel() for labels in maps]), return_counts=True)
        present = [int(i) for _, i in sorted(zip(-counts, ids, strict=True)) if 0 <= i < len(names)]
        shown, more = present[: self.most], len(present) - self.most
        texts = [f"{names[i]} (unseen)" if names[i] in unseen else names[i] for i in shown]
        entries = [*zip(shown, texts, strict=True), *([(-1, f"and {more} more")] if more > 0 else [])]
        font, box = _font(), _TEXT
        left, top, places = _GAP, _GAP, []
        for i, text in entries:
            needed = box + _GAP + int(font.getlength(text)) + 2 * _GAP
            if left > _GAP and left + needed > width:
                left, top = _GAP, top + box + _GAP
            places.append((left, top, i, text))
            left += needed
        canvas = Image.new("RGB", (width, top + box + 2 * _GAP), _WHITE)
        draw = ImageDraw.Draw(canvas)
        for x, y, i, text in places:
            colour = _WHITE if i < 0 else tuple(int(value) for value in self._meta["palette"][i])
            draw.rectangle((x, y, x + box, y + box), fill=colour, outline=_BLACK if i >= 0 else _WHITE)
            draw.text((x + box + _GAP, y - 1), text, fill=_BLACK, font=font)
        return np.asarray(canvas)


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(matplotlib.font_manager.findfont("DejaVu Sans"), _TEXT)


def _as_large(data: Any, image: Picture) -> NDArray[np.int64]:
    """A label map ``[1, h, w]`` at the picture's size, ``[H, W]``."""
    labels = np.asarray(data.cpu() if hasattr(data, "cpu") else data)[0].astype(np.int64)
    if labels.shape != image.shape[:2]:
        rows, columns = (np.arange(new) * old // new for new, old in zip(image.shape[:2], labels.shape, strict=True))
        labels = labels[rows[:, None], columns]
    return labels


def _titled(panel: Picture, title: str) -> Picture:
    bar = Image.new("RGB", (panel.shape[1], _TEXT + 2 * _GAP), _WHITE)
    ImageDraw.Draw(bar).text((_GAP, _GAP - 1), title, fill=_BLACK, font=_font())
    return np.concatenate([np.asarray(bar), panel], axis=0)
