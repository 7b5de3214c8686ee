"""Label maps made of published ones: file by file, in processes, each written whole, none made twice."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_NAMED = 5
#: Reads one published map, as the numbers of ours; raises ValueError about its content.
Reader = Callable[[Path], NDArray[Any]]


def convert_maps(jobs: Sequence[tuple[Path, Path]], read: Reader, *, workers: int = 0) -> int:
    """Write each target that is not there yet, as a PNG of 8 or 16 bits.

    A target appears whole or not at all, so that a run that was cut short goes on where it stopped.

    Args:
        jobs: (published map, map to make).
        read: Function of a module, so that another process finds it (``functools.partial`` does as well). Its map is
            ``[H, W]``, uint8 or uint16.
        workers: Processes; 0 or 1 for this one.

    Returns:
        How many were made.

    Raises:
        ValueError: If a map is not as published; names the file.
        FileNotFoundError: If a published map is missing; names the first few, before any is made.
    """
    todo = [(source, target) for source, target in jobs if not target.is_file()]
    require_all((source for source, _ in todo), "published label maps")
    for folder in {target.parent for _, target in todo}:
        folder.mkdir(parents=True, exist_ok=True)
    convert = partial(_convert, read=read)
    if workers < 2:
        for job in todo:
            convert(job)
        return len(todo)
    # Forked: nothing here has threads, and a fresh interpreter would import for longer than most sets take.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
        for _ in pool.map(convert, todo, chunksize=max(1, min(64, len(todo) // (4 * workers)))):
            pass  # errors of a process come up here
    return len(todo)


def require_all(paths: Iterable[Path], what: str) -> None:
    """Check that every path is a file.

    Raises:
        FileNotFoundError: Names the first few that are not.
    """
    checked = list(paths)
    absent = [str(path) for path in checked if not path.is_file()]
    if absent:
        more = f" and {len(absent) - _NAMED:,} more" if len(absent) > _NAMED else ""
        raise FileNotFoundError(
            f"{len(absent):,} of {len(checked):,} {what} are missing: {', '.join(absent[:_NAMED])}{more}. "
            "data/README.md says where they are to be had."
        )


def read_ids(path: Path) -> list[str]:
    """The image names in a list, one a line; a second word in a line is left out.

    Raises:
        FileNotFoundError: If there is no such list.
    """
    require_all([path], "lists of images")
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def write_ids(path: Path, names: Iterable[str]) -> None:
    """Write a list of image names, one a line, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    os.replace(temporary, path)


def relabel(values: NDArray[Any], table: NDArray[Any], path: Path) -> NDArray[Any]:
    """``table[values]`` of a published map.

    Args:
        values: Integers ``[H, W]``.
        table: The number of ours for each of theirs; -1 where they have none.
        path: The file, for errors.

    Returns:
        ``[H, W]`` uint8, or uint16 where a number needs it.

    Raises:
        ValueError: If a number has no entry.
    """
    wrong = (values < 0) | (values >= len(table))
    wrong |= table[np.where(wrong, 0, values)] < 0
    if values.ndim != 2 or wrong.any():
        got = f"shape {list(values.shape)}" if values.ndim != 2 else str(sorted(np.unique(values[wrong])[:5].tolist()))
        raise ValueError(f"{path} must hold one published number a pixel. Got {got}: it is of another data set.")
    return table[values].astype(np.uint8 if table.max() <= 255 else np.uint16)


def read_png(path: Path) -> NDArray[np.int64]:
    """The numbers in a grey or palette PNG, ``[H, W]`` (more dimensions where it has colours).

    Raises:
        ValueError: If it is no image.
    """
    try:
        with Image.open(path) as image:
            return np.array(image).astype(np.int64)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} must be an image. Got {type(error).__name__}: {error}. Unpack it again.") from error


def read_mat(path: Path, *keys: str) -> NDArray[np.int64]:
    """The numbers under nested keys of a MATLAB file, ``[H, W]``.

    Raises:
        ValueError: If it is no such file, or has no such key.
    """
    from scipy.io import loadmat  # type: ignore[import-untyped]  # comes with the hosts; only needed here

    try:
        found: Any = loadmat(str(path), squeeze_me=True, struct_as_record=True)
        for key in keys:
            found = found[key]
            found = found.item() if getattr(found, "dtype", None) is not None and found.dtype == object else found
        return np.asarray(found).astype(np.int64)
    except Exception as error:  # scipy raises what a broken file leads to: ValueError, TypeError, KeyError, zlib.error
        raise ValueError(
            f"{path} must be a MATLAB file with {' / '.join(keys)}. Got {type(error).__name__}: {error}. Unpack it "
            "again."
        ) from error


def _convert(job: tuple[Path, Path], read: Reader) -> None:
    source, target = job
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        Image.fromarray(read(source)).save(temporary, "PNG")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
