"""Classification images with base and novel classes: CoOp's sets, ImageNet's variants, plain image folders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from subpt_dense.datasets import (
    ClassSplit,
    FewShotDraw,
    ImageList,
    base_to_novel,
    list_sha256,
    load_or_draw,
    read_images,
)
from subpt_dense.datasets.image_list import part_folders
from subpt_dense.datasets.image_sets import FOLDER, get_image_set
from subpt_dense.datasets.splits import GROUPS
from subpt_dense.registry import DATASETS

#: `split` where no class is novel.
WHOLE = "whole"
# Items that worker processes share as bytes; for fewer, the garbage collection that packing takes costs more.
_SERIALIZED_FROM = 100_000


@DATASETS.register_module()
class ImageSet(BaseDataset):
    """The images of one part of a set whose classes are in one group.

    Labels are positions in ``metainfo["classes"]``, the group's names: for ``"all"`` the base names, then the novel
    ones. ``metainfo`` also holds ``base_classes``, ``novel_classes``, ``dataset_type``, ``set``, ``part``, ``group``,
    ``annotation_file`` (what lists the part) and ``annotation_sha256`` (of the images kept:
    :func:`subpt_dense.datasets.list_sha256`). An item before the pipeline holds ``img_path``, ``gt_label`` and
    ``sample_idx``.

    Args:
        set: A key of :data:`subpt_dense.datasets.IMAGE_SETS`, or ``"folder"`` (see
            :func:`subpt_dense.datasets.read_images`).
        data_root: What the set's folder lies in; of ``"folder"``, the set's own folder.
        part: ``"train"``, ``"val"`` or ``"test"``. A set without validation images has as ``"val"`` what is left of its
            training images after the few-shot draw.
        group: ``"base"``, ``"novel"`` or ``"all"``.
        split: Who is base. None: the first half of the labels. ``"whole"``: everybody, for protocols without novel
            classes. Else what :func:`subpt_dense.datasets.get_split` takes; classes in neither group are left out.
        folders: Of ``"folder"``: where each part lies under ``data_root``.
        shots: Images a class, of a training or validation part (there at most 4); None takes all.
        draw: The seed of the few-shot draw.
        draw_dir: Where draws are kept (:func:`subpt_dense.datasets.load_or_draw`).
        pipeline: Steps of an item.
        lazy_init: Whether the items are made when first asked for. The lists are read at once either way.

    Raises:
        FileNotFoundError: If a list, a folder or the first image of a class does not exist.
        ValueError: If an argument is out of range, a list is malformed, or a training part has no image of a class.
    """

    labels_by_name = True  # what VocabularyHook asks of a data set that numbers its labels

    def __init__(
        self,
        *,
        set: str,
        data_root: str = "data",
        part: str = "train",
        group: str = "all",
        split: "str | Path | ClassSplit | Mapping[str, Any] | None" = None,
        folders: Mapping[str, str] | None = None,
        shots: int | None = None,
        draw: int = 1,
        draw_dir: str = "work_dirs/draws",
        pipeline: Sequence[Any] = (),
        lazy_init: bool = False,
    ) -> None:
        if group not in GROUPS:
            raise ValueError(f"`group` of ImageSet must be one of {', '.join(map(repr, GROUPS))}. Got {group!r}.")
        if shots is not None and part == "test":
            raise ValueError(f"`shots` of ImageSet must be None for part='test', which is tested whole. Got {shots!r}.")
        listed = _read(set, data_root, part, folders, shots, draw, draw_dir)
        base, novel = _groups(listed, split)
        names = {"base": base, "novel": novel, "all": base + novel}[group]
        if not names:
            raise ValueError(f"`group` of ImageSet must be 'base' or 'all' with split={split!r}. Got {group!r}.")
        labels = {name: label for label, name in enumerate(names)}
        self._images = listed.only(entry for entry in listed.images if entry[2] in labels)
        self._labels = labels
        _check_images(self._images, names, group)
        metainfo = {
            "classes": names,
            "base_classes": base,
            "novel_classes": novel,
            "dataset_type": "image_set",
            "set": listed.name,
            "part": part,
            "group": group,
            "annotation_file": str(listed.source),
            "annotation_sha256": list_sha256(self._images.images),
        }
        super().__init__(
            metainfo=metainfo,
            data_root=str(data_root),
            data_prefix={},
            pipeline=list(pipeline),
            serialize_data=len(self._images) > _SERIALIZED_FROM,
            test_mode=part != "train",
            lazy_init=lazy_init,
        )

    @classmethod
    def _load_metainfo(cls, metainfo: Any = None) -> dict[str, Any]:
        """The entries as they are: mmengine would open ``annotation_file`` and put its lines in its place."""
        return dict(metainfo)

    def load_data_list(self) -> list[dict[str, Any]]:
        """``img_path`` and ``gt_label`` of each image."""
        root, labels = self._images.root, self._labels
        return [{"img_path": str(root / path), "gt_label": labels[name]} for path, _, name in self._images.images]

    def get_cat_ids(self, idx: int) -> list[int]:
        """The label of an item, in a list."""
        return [self.get_data_info(idx)["gt_label"]]


def _read(
    set: str, data_root: str, part: str, folders: Mapping[str, str] | None, shots: int | None, draw: int, draw_dir: str
) -> ImageList:
    """The images of a part, after the few-shot draw where there is one."""
    parts = tuple(part_folders(data_root, folders)) if set == FOLDER else get_image_set(set).parts
    left_over = part == "val" and part not in parts and "train" in parts
    if left_over and shots is None:
        raise ValueError(
            f"`shots` of ImageSet must be a number for part='val' of {set!r}, which has no validation images: they are "
            "drawn from the training images that `shots` leaves over. Got None."
        )
    if shots is None:
        return read_images(set, data_root, part, folders)
    train = read_images(set, data_root, "train", folders)
    val = None if "val" not in parts else read_images(set, data_root, "val", folders)
    drawn: FewShotDraw = load_or_draw(train, val, shots, draw, draw_dir)
    chosen = drawn.val if part == "val" else drawn.train
    if not chosen.images:
        raise ValueError(
            f"`shots` of ImageSet must leave training images over for part='val' of {train.name}, which has no "
            f"validation images. Got {shots}, and no image left."
        )
    return chosen


def _groups(
    listed: ImageList, split: "str | Path | ClassSplit | Mapping[str, Any] | None"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Base and novel names."""
    if split == WHOLE:
        return listed.names, ()
    chosen = base_to_novel(listed.names, listed.name, split)
    outside = len(listed.names) - len(chosen.all)
    if outside:
        print_log(f"{outside} classes of {listed.name} are in no group of split {chosen.name!r}: left out", "current")
    return chosen.base, chosen.novel


def _check_images(images: ImageList, names: Sequence[str], group: str) -> None:
    """Refuse an empty group, training classes without an image, and a set whose images are elsewhere."""
    counts = images.counts()
    empty = [name for name in names if not counts[name]]
    if len(empty) == len(names) or (empty and images.part == "train"):
        more = ", ..." if empty[5:] else ""
        raise ValueError(
            f"The part {images.part!r} of {images.name}, listed in {images.source}, must hold images of each class of "
            f"group {group!r}. Got none of {len(empty)} of {len(names)}: {', '.join(empty[:5])}{more}."
        )
    images.check_sample()
