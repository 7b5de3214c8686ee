"""What of a classification set is on disk: found, missing or malformed, and whether its size is the published one."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from subpt_dense.datasets.image_list import ImageList, part_folders, read_images
from subpt_dense.datasets.image_sets import FOLDER, IMAGE_SETS, ImageSetInfo, get_image_set

FOUND, MISSING, MALFORMED = "found", "missing", "malformed"
#: Missing images that are named; the rest are counted.
_NAMED = 5


@dataclass
class SetReport:
    """What was found of one set.

    Attributes:
        name: The set's key, or the path of a plain image folder.
        state: ``"found"``, ``"missing"`` (a list, folder or image) or ``"malformed"`` (a list, which comes first).
        classes: Classes found, None where no list could be read.
        images: Images listed, by part.
        published: Images by part as published; empty for plain folders.
        problems: What is missing or malformed, a line each.
        remarks: What does not stop a run but makes its numbers incomparable: other sizes, images in two parts.
        source: Where the set is to be had.
    """

    name: str
    state: str = FOUND
    classes: int | None = None
    images: dict[str, int] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def check_set(
    name: str,
    root: str | Path = "data",
    *,
    images: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SetReport:
    """Look at one set without stopping at the first problem.

    Args:
        name: A key of :data:`~subpt_dense.datasets.image_sets.IMAGE_SETS`, or the path of a folder that holds
            ``train``, ``val`` or ``test`` with a folder a class.
        root: What the sets' folders lie in.
        images: Whether to look for every image listed; else only for the first of each class.
        progress: Called with the number of images looked for so far, and of all.

    Raises:
        ValueError: If ``name`` is neither.
    """
    if name in IMAGE_SETS:
        info = get_image_set(name)
        report = SetReport(name, published=dict(info.counts), source=info.source)
        lists = list(_read_set(info, root, report))
    elif Path(name).is_dir():
        report = SetReport(name)
        lists = list(_read_folder(name, report))
    else:
        raise ValueError(
            f"A classification set must be one of {', '.join(IMAGE_SETS)}, or an existing folder. Got {name!r}."
        )
    for listed in lists:
        report.images[listed.part] = len(listed)
        report.classes = max(report.classes or 0, len(listed.names))
    _compare(report, lists, info.classes if name in IMAGE_SETS else None)
    if images:
        _look_for_images(report, lists, progress)
    elif report.state == FOUND:
        _look_for_some(report, lists)
    return report


def _read_set(info: ImageSetInfo, root: str | Path, report: SetReport) -> Iterator[ImageList]:
    for part in info.parts:
        absent = [
            f"{path}: no such {kind}"
            for path, kind in info.needed(root, part)
            if not (Path(path).is_file() if kind == "file" else Path(path).is_dir())
        ]
        for line in absent:
            add_problem(report, MISSING, line)
        if not absent or (info.layout in ("split", "variants") and not any(line.endswith("file") for line in absent)):
            yield from _read(report, info.key, root, part)


def _read_folder(folder: str, report: SetReport) -> Iterator[ImageList]:
    try:
        parts = part_folders(folder, None)
    except ValueError as error:
        add_problem(report, MALFORMED, str(error))
        return
    for part in parts:
        yield from _read(report, FOLDER, folder, part)


def _read(report: SetReport, key: str, root: str | Path, part: str) -> Iterator[ImageList]:
    try:
        yield read_images(key, root, part)
    except (ValueError, TypeError) as error:
        add_problem(report, MALFORMED, str(error))
    except OSError as error:
        add_problem(report, MISSING, str(error))


def _compare(report: SetReport, lists: list[ImageList], classes: int | None) -> None:
    """Remarks on sizes and on images that two parts share."""
    if classes is not None and report.classes not in (None, classes):
        report.remarks.append(f"{report.classes} classes, published: {classes}.")
    for part, count in report.images.items():
        published = report.published.get(part, count)
        if count != published:
            report.remarks.append(f"{count:,} images of `{part}`, published: {published:,}.")
    owners: dict[str, str] = {}
    shared = 0
    for listed in lists:
        for path, _, _ in listed.images:
            shared += owners.setdefault(path, listed.part) != listed.part
    if shared:
        report.remarks.append(f"{shared:,} images stand in two parts.")


def _look_for_some(report: SetReport, lists: list[ImageList]) -> None:
    for listed in lists:
        try:
            listed.check_sample()
        except FileNotFoundError as error:
            add_problem(report, MISSING, str(error))


def _look_for_images(report: SetReport, lists: list[ImageList], progress: Callable[[int, int], None] | None) -> None:
    done, total = 0, sum(map(len, lists))
    for listed in lists:
        absent = []
        for path, _, _ in listed.images:
            file = listed.root / path
            try:
                if file.stat().st_size == 0:
                    absent.append(f"{file} (empty)")
            except OSError:
                absent.append(str(file))
            done += 1
            if progress and (done % 500 == 0 or done == total):
                progress(done, total)
        if absent:
            more = f" and {len(absent) - _NAMED:,} more" if len(absent) > _NAMED else ""
            named = ", ".join(absent[:_NAMED])
            add_problem(report, MISSING, f"{len(absent):,} of {len(listed):,} images of `{listed.part}`: {named}{more}")


def add_problem(report: SetReport, state: str, line: str) -> None:
    """Add a line to a report, once; a set with both kinds of problems is malformed."""
    if line not in report.problems:
        report.problems.append(line)
    if report.state != MALFORMED:
        report.state = state
