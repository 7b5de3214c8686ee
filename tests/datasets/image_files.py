"""The classification sets of CoOp's users in small, each in its own layout."""

import json
from pathlib import Path

from PIL import Image

from subpt_dense.datasets import IMAGE_SETS

#: Images of each class in each part.
SIZES = {"train": 6, "val": 5, "test": 3}
WNIDS = {"n01440764": "tench", "n01443537": "goldfish", "n03773504": "missile", "n04008634": "missile"}
#: Class names of every set here, in label order.
NAMES = ("zebra crossing", "ant", "Boeing 707", "moth/butterfly", "cat")
IMAGENET_NAMES = ("tench", "goldfish", "missile", "projectile")


def write_set(root: Path, key: str, *, pixels: bool = False) -> None:
    """Lay out a small set under ``root``: five classes (ImageNet's: four), empty image files unless ``pixels``."""
    {"split": _write_split, "variants": _write_variants, "wnid": _write_wnids, "index": _write_wnids}[
        IMAGE_SETS[key].layout
    ](root, key, pixels)


def write_folders(root: Path, parts: dict[str, dict[str, int]], *, pixels: bool = False) -> None:
    """``{"train": {"red_star": 3}}``: a folder a class."""
    for part, classes in parts.items():
        for name, count in classes.items():
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                write_image(root / part / name / f"{number:02d}.png", pixels)


def write_image(path: Path, pixels: bool, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels:
        shade = sum(map(ord, str(path))) % 256
        Image.new("RGB", size, (shade, 255 - shade, 7)).save(path)
    else:
        path.touch()


def split_content() -> dict[str, list[list[object]]]:
    """What a split file says: written names have underscores, the order is not that of the labels."""

    def rows(part: str) -> list[list[object]]:
        label_order = (3, 0, 4, 1, 2)
        return [
            [f"class_{label}/{part}_{number}.jpg", label, NAMES[label].replace(" ", "_")]
            for label in label_order
            for number in range(SIZES[part])
        ]  # fmt: skip

    return {part: rows(part) for part in SIZES}


def _write_split(root: Path, key: str, pixels: bool) -> None:
    info = IMAGE_SETS[key]
    content = split_content()
    for part in content.values():
        for path, _, _ in part:
            write_image(root / info.folder / info.images / str(path), pixels)
    (root / info.folder / info.names_file).write_text(json.dumps(content))


def _write_variants(root: Path, key: str, pixels: bool) -> None:
    folder = root / IMAGE_SETS[key].folder
    folder.mkdir(parents=True)
    (folder / "variants.txt").write_text("\n".join(NAMES) + "\n")
    number = 0
    for part, size in SIZES.items():
        lines = []
        for _ in range(size):
            for name in NAMES:
                number += 1
                lines.append(f"{number:07d} {name}\n")
                write_image(folder / "images" / f"{number:07d}.jpg", pixels)
        (folder / f"images_variant_{part}.txt").write_text("".join(lines))


def _write_wnids(root: Path, key: str, pixels: bool) -> None:
    info = IMAGE_SETS[key]
    (root / info.folder).mkdir(parents=True)
    lines = "".join(f"{wnid} {name}\n" for wnid, name in WNIDS.items())
    (root / info.folder / "classnames.txt").write_text(lines)
    for part in info.parts:
        base = root / info.folder / info.images / dict(info.part_folders).get(part, "")
        base.mkdir(parents=True, exist_ok=True)
        (base / "README.txt").write_text("not a class")
        folders = [str(i) for i in range(len(WNIDS))] if info.layout == "index" else list(WNIDS)
        for folder in folders[1:] if info.some_of_imagenet else folders:
            for number in range(SIZES[part]):
                write_image(base / folder / f"{folder}_{number}.JPEG", pixels)
