"""Images in one folder a class."""

import os
from collections.abc import Mapping
from pathlib import Path

from subpt_dense.datasets.split_file import Entry
from subpt_dense.text import clean_name

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def list_class_folders(folder: str | Path) -> list[str]:
    """The folders in a folder, sorted, hidden ones left out.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If there is no folder in it.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"The folder {folder} does not exist.")
    with os.scandir(folder) as found:
        entries = [(entry.name, entry.is_dir()) for entry in found if not entry.name.startswith(".")]
    classes = sorted(name for name, is_folder in entries if is_folder)
    if not classes:
        raise ValueError(f"{folder} must hold one folder a class. Got {len(entries)} files and no folder.")
    return classes


def read_class_folders(
    root: str | Path, below: str, classes: Mapping[str, str], *, complete: bool, named_by: str
) -> list[Entry]:
    """The images in the class folders of ``root/below``, class after class, sorted by file name.

    Args:
        root: Paths are relative to it.
        below: Where the class folders lie.
        classes: Folder name to class name, in label order.
        complete: Whether every class must have its folder.
        named_by: What names the classes; said in errors.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If there is a folder that is no class, or one is missing and must not be.
    """
    base = Path(root) / below
    found = list_class_folders(base)
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise ValueError(f"Each folder in {base} must be a class of {named_by}. Got {_some(unknown)}.")
    missing = [name for name in classes if name not in found]
    if complete and missing:
        raise ValueError(
            f"{base} must hold a folder for each of the {len(classes)} classes of {named_by}. Missing: "
            f"{_some(missing)}."
        )
    entries: list[Entry] = []
    for label, (folder, name) in enumerate(classes.items()):
        if folder in found:
            entries += [((Path(below) / folder / file).as_posix(), label, name) for file in _images(base / folder)]
    return entries


def folder_names(root: str | Path, below: list[str]) -> dict[str, str]:
    """The class folders of several parts together: folder name to class name, sorted by folder name.

    Raises:
        FileNotFoundError: If a part's folder does not exist.
        ValueError: If one holds no class folder, or two folders are one name, underscores and case aside.
    """
    folders = sorted({name for part in below for name in list_class_folders(Path(root) / part)})
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for folder in folders:
        names[folder] = clean_name(folder)
        other = owners.setdefault(names[folder].casefold(), folder)
        if other != folder:
            raise ValueError(f"Class folders under {root} must have distinct names. Got {other!r} = {folder!r}.")
    return names


def _images(folder: Path) -> list[str]:
    with os.scandir(folder) as found:
        names = [entry.name for entry in found]
    return sorted(name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith("."))


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
