"""Semantic segmentation data with seen and unseen classes, labelled by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine import fileio
from mmseg.datasets import BaseSegDataset

from subpt_dense.datasets import ClassSplit, get_split
from subpt_dense.datasets.names import numbered_names
from subpt_dense.registry import DATASETS
from subpt_dense.text import clean_name

#: How the groups of a split are called in this task.
_ALIASES = {"seen": "base", "unseen": "novel"}
_PADDED = 255  # mmseg's label of padded pixels, whatever the data set ignores
_NAMED = 5


@DATASETS.register_module()
class ZSSegDataset(BaseSegDataset):
    """Images and label maps whose labels are positions in a split's names.

    ``metainfo`` holds ``classes`` (the group's names: label ``i`` is ``classes[i]``), ``base_classes`` (seen),
    ``novel_classes`` (unseen), ``split``, ``group`` and ``palette``. The numbers in the files go to labels *by name*:
    of a built-in split its ``ids`` say which number is which name; of any other, ``labels`` does. Pixels of names
    outside the group become the ignored label: with ``group="seen"`` unseen classes are ignored in training, and so are
    names that the split leaves out, such as the toy world's six grounds.

    Use :class:`subpt_dense.LoadLabels` in the pipeline: it refuses a number that is no class.

    Args:
        split: What :func:`subpt_dense.datasets.get_split` takes: ``"voc_zss"``, ``"coco_stuff_zss"``,
            ``"context_zss"``, ``"ade150"``, ..., or the path to a .json file.
        group: ``"seen"`` (or ``"base"``), ``"unseen"`` (``"novel"``) or ``"all"``; by default ``"seen"`` in training
            and ``"all"`` with ``test_mode=True``.
        labels: What the numbers in the files mean, where the split has no ``ids``: names in the order of the numbers,
            from 0 (from 1 with ``reduce_zero_label``), as a list or a .txt file with one a line and nothing else.
        metainfo: Further entries for ``metainfo``, or another ``palette``.
        data_prefix: ``img_path`` and ``seg_map_path``, the folders of the images and of the label maps.
        ignore_index: Number in the files of the pixels that do not count: 255, or 65535 where 255 is a class of theirs.
            It is their label too, but for training: there the host's crops, padding and losses have 255, so that
            training takes at most 255 classes.
        **kwargs: As for ``mmseg.BaseSegDataset``: ``data_root``, ``ann_file`` (one name a line, no suffix),
            ``img_suffix``, ``seg_map_suffix``, ``reduce_zero_label``, ``pipeline``, ``indices``, ...

    Raises:
        ValueError: If an argument is not as above, the numbers of the files are of other names than the split's, or the
            data set is empty.
        FileNotFoundError: If ``ann_file`` or ``labels`` does not exist, or a listed image or label map is missing.
        RuntimeError: In reading, if an image cannot be read or a test sample is skipped; names the file.
    """

    METAINFO: dict[str, Any] = {}

    def __init__(
        self,
        *,
        split: "str | Path | ClassSplit | Mapping[str, Any]",
        group: str | None = None,
        labels: str | Path | Sequence[str] | None = None,
        metainfo: Mapping[str, Any] | None = None,
        data_prefix: Mapping[str, str] | None = None,
        ignore_index: int = 255,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        chosen = get_split(split)
        if group is None:
            group = "all" if kwargs.get("test_mode") else "base"
        group = _ALIASES.get(group, group)
        classes = chosen.group(group)
        entries = {
            "classes": classes,
            "base_classes": chosen.base,
            "novel_classes": chosen.novel,
            "split": chosen.name,
            "group": group,
        }
        clash = sorted(set(metainfo or ()) & {*entries, "label_map"})
        if clash:
            raise ValueError(
                f"`metainfo` of ZSSegDataset must not set what `split` and `group` decide. Got {', '.join(clash)}."
            )
        prefix = dict(data_prefix or {})
        if set(prefix) != {"img_path", "seg_map_path"}:
            raise ValueError(
                "`data_prefix` of ZSSegDataset must name the image folder as `img_path` and the folder of the label "
                f"maps as `seg_map_path`. Got {prefix}."
            )
        numbers = _numbers(chosen, labels)
        last = max(numbers) + int(bool(kwargs.get("reduce_zero_label")))  # as the files have it
        if ignore_index < max(len(classes), last + 1) and ignore_index >= 0:
            raise ValueError(
                f"`ignore_index` of ZSSegDataset must be no label of the {len(classes)} classes and no number in the "
                f"files, which go up to {last}. Got {ignore_index}: take 65535."
            )
        if len(classes) > _PADDED and not kwargs.get("test_mode"):
            raise ValueError(
                f"`group` of ZSSegDataset must have at most {_PADDED} classes for training: pixels that are padded get "
                f"the label {_PADDED}, which is then a class. Got {len(classes)}. Train on fewer of them."
            )
        meta = {"palette": palette(len(classes)), **entries, **(metainfo or {})}
        super().__init__(metainfo=meta, data_prefix=prefix, ignore_index=ignore_index, lazy_init=True, **kwargs)
        position = {name: label for label, name in enumerate(classes)}
        self.ignored_label = ignore_index if self.test_mode else _PADDED
        #: number in the files (after `reduce_zero_label`) -> label or `ignored_label`
        self.label_map = {number: position.get(name, self.ignored_label) for number, name in numbers.items()}
        self._metainfo["label_map"] = self.label_map
        if not lazy_init:
            self.full_init()

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The entries as given: mmengine takes a string for a path, and reads the file where one has that name."""
        return {**cls.METAINFO, **(metainfo or {})}

    def load_data_list(self) -> list[dict[str, Any]]:
        """Paths of every image and its label map, sorted by name, or in the order of ``ann_file``."""
        images = self._listing("img_path", self.img_suffix)
        names = self._read_names() if self.ann_file else sorted(images)
        if not names:
            where = self.ann_file or f"{self.data_prefix['img_path']} (suffix {self.img_suffix})"
            raise ValueError(f"The data set must hold at least one image. Got none from {where}.")
        maps = self._listing("seg_map_path", self.seg_map_suffix)
        for kind, listed, key in (("images", images, "img_path"), ("label maps", maps, "seg_map_path")):
            absent = [name for name in names if name not in listed]
            if absent:
                more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
                raise FileNotFoundError(
                    f"{len(absent)} of {len(names)} {kind} are not in {self.data_prefix[key]}: "
                    f"{', '.join(absent[:_NAMED])}{more}. data/README.md says what makes them."
                )
        return [{"img_path": images[name], "seg_map_path": maps[name], "seg_fields": []} for name in names]

    def _listing(self, key: str, suffix: str) -> dict[str, str]:
        """name without suffix -> path of every file of a folder that has the suffix."""
        folder = self.data_prefix[key]
        found = fileio.list_dir_or_file(
            folder, list_dir=False, suffix=suffix, recursive=True, backend_args=self.backend_args
        )
        return {name[: -len(suffix)]: fileio.join_path(folder, name, backend_args=self.backend_args) for name in found}

    def _read_names(self) -> list[str]:
        if not fileio.exists(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(
                f"`ann_file` of ZSSegDataset names {self.ann_file}, which does not exist. data/README.md says what "
                "makes it."
            )
        lines = fileio.get_text(self.ann_file, backend_args=self.backend_args).splitlines()
        return [line.strip() for line in lines if line.strip()]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """An entry with what all of them share; the label map is one object, not a copy for each of 118,287 images."""
        info = super().get_data_info(idx)
        shared = {"label_map": self.label_map, "reduce_zero_label": self.reduce_zero_label}
        return {**info, **shared, "ignore_index": self.ignore_index, "ignored_label": self.ignored_label}

    def prepare_data(self, idx: int) -> Any:
        """A sample after the pipeline; ``None`` (another one is drawn) in training only."""
        path = self.get_data_info(idx)["img_path"]
        try:
            data = super().prepare_data(idx)
        except OSError as error:  # Pillow's, which name no file
            raise RuntimeError(f"Image {path}, or its label map, cannot be read: {error}") from error
        if data is None and self.test_mode:
            raise RuntimeError(
                f"No image may be skipped in testing, or the scores would be of another set. {path} came out of the "
                "pipeline as None: keep `on_empty='keep'` of LoadLabels in the test pipeline."
            )
        return data


def _numbers(split: ClassSplit, labels: str | Path | Sequence[str] | None) -> dict[int, str]:
    """number in the files -> name as the split spells it; a name that the split leaves out stays as it is."""
    if labels is None:
        if not split.ids:
            raise ValueError(
                f"`labels` of ZSSegDataset must say what the numbers in the label maps mean: split {split.name!r} has "
                "no `ids`. Give the names in the order of the numbers, as a list or a .txt file with one a line."
            )
        return dict(zip(split.ids, split.all, strict=True))
    if split.ids:
        raise ValueError(
            f"`labels` of ZSSegDataset must be left out for split {split.name!r}, whose `ids` are the numbers in the "
            "label maps. Got both."
        )
    listed = numbered_names(labels)
    spelled = {_same(name): name for name in split.all}
    absent = sorted(set(spelled) - set(map(_same, listed)))
    if absent:
        raise ValueError(
            f"`labels` of ZSSegDataset must hold every name of split {split.name!r}. Missing: "
            f"{', '.join(spelled[name] for name in absent[:_NAMED])}{' ...' if len(absent) > _NAMED else ''}."
        )
    return {number: spelled.get(_same(name), name) for number, name in enumerate(listed)}


def _same(name: str) -> str:
    return clean_name(name).casefold()


def palette(count: int) -> list[list[int]]:
    """``count`` RGB colours in 0..255, the first of them VOC's own: bits of the index spread over the channels."""
    colours = []
    for index in range(1, count + 1):  # VOC's 0 is the background
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        colours.append(colour)
    return colours
