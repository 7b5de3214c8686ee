"""The images of one part of a classification set: path, label and class name of each."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from subpt_dense.datasets.class_folders import folder_names, list_class_folders, read_class_folders
from subpt_dense.datasets.files import file_sha256
from subpt_dense.datasets.image_sets import FOLDER, PARTS, ImageSetInfo, get_image_set
from subpt_dense.datasets.split_file import (
    Entry,
    read_class_names,
    read_split_file,
    read_variant_images,
    read_variants,
)


@dataclass(frozen=True)
class ImageList:
    """Images of one part.

    Attributes:
        name: The set's key, or the name of the folder.
        part: ``"train"``, ``"val"`` or ``"test"``.
        root: The folder the paths start at.
        images: ``(path, label, class name)`` of each.
        names: Every class name of the set, in label order; not each need have an image in this part.
        source: The file or folder that lists them.
        source_sha256: Of the split file, where there is one; else of the list itself (:func:`list_sha256`).
    """

    name: str
    part: str
    root: Path
    images: tuple[Entry, ...]
    names: tuple[str, ...]
    source: Path
    source_sha256: str

    def __len__(self) -> int:
        return len(self.images)

    def counts(self) -> dict[str, int]:
        """Number of images of each class name, in label order; 0 where there is none."""
        counts = dict.fromkeys(self.names, 0)
        for _, _, name in self.images:
            counts[name] += 1
        return counts

    def only(self, images: Iterable[Entry]) -> "ImageList":
        """The same list with other images."""
        return replace(self, images=tuple(images))

    def check_sample(self) -> None:
        """See whether the first image of each class exists: a folder unpacked elsewhere is noticed before training.

        Raises:
            FileNotFoundError: If one does not; names it and the list.
        """
        first: dict[int, str] = {}
        for path, label, _ in self.images:
            first.setdefault(label, path)
        absent = [path for path in first.values() if not (self.root / path).is_file()]
        if absent:
            raise FileNotFoundError(
                f"The images of {self.name} ({self.part}), listed in {self.source}, must exist. Of the first images of "
                f"its {len(first)} classes {len(absent)} do not, such as {self.root / absent[0]}. "
                "`python tools/check_data.py --images` lists all."
            )


def read_images(
    set: str, data_root: str | Path = "data", part: str = "train", folders: Mapping[str, str] | None = None
) -> ImageList:
    """The images of one part of a set, in the order and with the labels of its own list.

    Args:
        set: A key of :data:`~subpt_dense.datasets.image_sets.IMAGE_SETS`, or ``"folder"`` for images in
            ``data_root/<part>/<class name>/*.jpg`` (or .png, ...), labelled in the order of the folder names of all
            parts together.
        data_root: What the set's folder lies in; of ``"folder"``, the set's own folder.
        part: ``"train"``, ``"val"`` or ``"test"``.
        folders: Of ``"folder"``: where each part lies under ``data_root``, such as ``dict(train="crops/train",
            test="crops/val")``; by default those of ``train``, ``val`` and ``test`` that exist.

    Raises:
        FileNotFoundError: If a list or folder does not exist.
        ValueError: If the set or part is unknown, a list is malformed (file and entry are named), or the part is empty.
    """
    known = part_folders(data_root, folders) if set == FOLDER else get_image_set(set).parts
    if part not in known:
        raise ValueError(
            f"`part` of {_called(set, data_root)} must be one of {', '.join(map(repr, known))}. Got {part!r}."
        )
    if set == FOLDER:
        listed = _read_folder(Path(data_root), part, part_folders(data_root, folders))
    else:
        if folders:
            raise ValueError(f"`folders` is for plain image folders, set={FOLDER!r}. Got it with set={set!r}.")
        listed = _READERS[get_image_set(set).layout](get_image_set(set), data_root, part)
    if not listed.images:
        raise ValueError(f"The part {part!r} of {listed.name}, listed in {listed.source}, must hold images. Got none.")
    return listed


def read_names(set: str, data_root: str | Path = "data", folders: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The class names of a set in label order, from its list; no image is looked for.

    Raises:
        FileNotFoundError, ValueError: As for :func:`read_images`.
    """
    if set == FOLDER:
        return tuple(folder_names(data_root, list(part_folders(data_root, folders).values())).values())
    info = get_image_set(set)
    path = info.names_path(data_root)
    if info.layout == "split":
        return read_split_file(path)[1]
    return read_variants(path) if info.layout == "variants" else tuple(_wnid_classes(info, data_root, None).values())


def part_folders(data_root: str | Path, folders: Mapping[str, str] | None) -> dict[str, str]:
    """Where the parts of a plain image folder lie under it.

    Raises:
        ValueError: If a part has another name, or there is none.
    """
    if folders is None:
        folders = {part: part for part in PARTS if (Path(data_root) / part).is_dir()}
        if not folders:
            raise ValueError(
                f"{data_root} must hold a folder {', '.join(PARTS[:-1])} or {PARTS[-1]}. Got none of them."
            )
    if not isinstance(folders, Mapping):
        raise ValueError(f"`folders` must be a dict of part and folder. Got {folders!r}.")
    unknown = [part for part in folders if part not in PARTS]
    if unknown or not folders:
        raise ValueError(f"`folders` must name parts among {', '.join(PARTS)}. Got {', '.join(unknown) or 'none'}.")
    return dict(folders)


def set_name(set: str, data_root: str | Path) -> str:
    """What results and draws call a set: its key, or the name of a plain image folder."""
    return Path(data_root).resolve().name if set == FOLDER else set


def list_sha256(images: Iterable[Entry]) -> str:
    """SHA-256 over the sorted lines ``path<TAB>class name``: equal for equal images under equal names."""
    lines = sorted(f"{path}\t{name}\n" for path, _, name in images)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read_split(info: ImageSetInfo, data_root: str | Path, part: str) -> ImageList:
    path = Path(info.names_path(data_root))
    parts, names = read_split_file(path)
    root = Path(info.image_folder(data_root))
    return ImageList(info.key, part, root, tuple(parts[part]), names, path, file_sha256(path))


def _read_variants(info: ImageSetInfo, data_root: str | Path, part: str) -> ImageList:
    names = read_variants(info.names_path(data_root))
    path = Path(info.path(data_root, f"images_variant_{part}.txt"))
    images = tuple(read_variant_images(path, names))
    return ImageList(info.key, part, Path(info.image_folder(data_root)), images, names, path, list_sha256(images))


def _read_wnids(info: ImageSetInfo, data_root: str | Path, part: str) -> ImageList:
    classes = _wnid_classes(info, data_root, part)
    root, below = Path(info.image_folder(data_root)), dict(info.part_folders).get(part, "")
    named_by = info.names_path(data_root)
    images = tuple(read_class_folders(root, below, classes, complete=True, named_by=named_by))
    names = tuple(classes.values())
    return ImageList(info.key, part, root, images, names, root / below, list_sha256(images))


def _wnid_classes(info: ImageSetInfo, data_root: str | Path, part: str | None) -> dict[str, str]:
    """Folder name to class name, in label order: sorted by WordNet id, for V2 by position in ``classnames.txt``."""
    path = info.names_path(data_root)
    names = read_class_names(path)
    if info.layout == "index":
        return {str(position): name for position, name in enumerate(names.values())}
    if not info.some_of_imagenet:
        return dict(sorted(names.items()))
    folder = info.image_folder(data_root, part)
    found = list_class_folders(folder)
    unknown = [wnid for wnid in found if wnid not in names]
    if unknown:
        raise ValueError(f"Each folder in {folder} must be a class of {path}. Got {', '.join(unknown[:5])}.")
    return {wnid: names[wnid] for wnid in found}


def _read_folder(data_root: Path, part: str, folders: Mapping[str, str]) -> ImageList:
    classes = folder_names(data_root, list(folders.values()))
    entries = read_class_folders(
        data_root, folders[part], classes, complete=False, named_by=f"the parts of {data_root}"
    )
    images, source = tuple(entries), data_root / folders[part]
    name = set_name(FOLDER, data_root)
    return ImageList(name, part, data_root, images, tuple(classes.values()), source, list_sha256(images))


def _called(set: str, data_root: str | Path) -> str:
    return f"the folder {data_root}" if set == FOLDER else f"set {set!r}"


_READERS = {"split": _read_split, "variants": _read_variants, "wnid": _read_wnids, "index": _read_wnids}
