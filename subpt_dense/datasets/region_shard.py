"""One shard of a region cache while it is being filled (n regions of whole images, D embedding)."""

import hashlib
import io
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DTYPE = np.dtype("<f2")
_BLOCK = 8192  # rows checked at a time
_TOLERANCE = 0.01  # of a unit vector's length, in float16


class ShardWriter:
    """Appends the embeddings of image after image, and moves the file to its place when it is complete.

    As a context manager: opens the file, takes it for this process alone, and cuts off what a kill left half written.

    Args:
        path: The shard's place, ``embeddings_00000.npy``; until it is complete, it is ``<path>.partial``.
        images: Positions of its images.
        offsets: ``[I + 1]`` int64, of all images.
        embed_dim: D.

    Attributes:
        regions: n.
        length: Bytes of the complete file.
    """

    def __init__(self, path: Path, images: range, offsets: NDArray[np.int64], embed_dim: int) -> None:
        self.path, self.images, self.embed_dim = path, images, embed_dim
        self.digest_path = path.with_name(f"{path.name}.sha256")
        self._partial = path.with_name(f"{path.name}.partial")
        self._offsets = np.asarray(offsets[images.start : images.stop + 1]) - int(offsets[images.start])
        self.regions = int(self._offsets[-1])
        self._header = header_of(_DTYPE, (self.regions, embed_dim))
        self.length = len(self._header) + self.regions * embed_dim * _DTYPE.itemsize
        self._left: list[int] = []  # positions to do, the next one last
        self._file: io.FileIO | None = None

    @property
    def complete(self) -> bool:
        """Whether the file is in its place."""
        return self.path.is_file() and self.path.stat().st_size == self.length

    def __enter__(self) -> "ShardWriter":
        if self.complete:
            return self
        self._file = io.FileIO(os.open(self._partial, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        try:
            _lock(self._file, self._partial)
            done = self._images_done(self._file)
            if done < 0:
                self._file.seek(0)
                self._file.truncate()
                _write(self._file, self._header)
                done = 0
            self._file.truncate(len(self._header) + self._bytes(done))
            self._file.seek(0, os.SEEK_END)
        except BaseException:
            self._file.close()
            raise
        counts = np.diff(self._offsets)
        self._left = [self.images.start + at for at in range(done, len(self.images)) if counts[at]][::-1]
        return self

    @property
    def todo(self) -> tuple[int, ...]:
        """Positions of the images that have regions and are still to be written, in order; within the context."""
        return tuple(reversed(self._left))

    def append(self, position: int, embeddings: ArrayLike) -> None:
        """Write the embeddings of the next image of :attr:`todo`.

        Args:
            position: The image's; the first of ``todo``.
            embeddings: ``[N, D]`` unit vectors; written as float16.

        Raises:
            ValueError: If it is another image's turn, the shape is wrong, or a row is not of length 1.
        """
        if self._file is None or self._left[-1:] != [position]:
            turn = f"It is the turn of image {self._left[-1]}" if self._left else "None is left"
            raise ValueError(f"The images of {self.path.name} must come in order. {turn}. Got {position}.")
        at = position - self.images.start
        expected = [int(self._offsets[at + 1] - self._offsets[at]), self.embed_dim]
        rows = np.ascontiguousarray(embeddings, dtype=_DTYPE)
        if list(rows.shape) != expected or not _unit(rows).all():
            raise ValueError(
                f"The embeddings of image {position} in {self.path.name} must be unit rows of shape {expected}. Got "
                f"{list(rows.shape)}{'' if list(rows.shape) != expected else ', not all of length 1'}."
            )
        _write(self._file, rows.tobytes())
        self._left.pop()

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        if self._file is None:
            return
        try:
            if kind is None and not self._left:
                os.fsync(self._file.fileno())
                self._file.seek(0)
                digest = hashlib.file_digest(self._file, "sha256").hexdigest()
                temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
                temporary.write_text(f"{digest}  {self.path.name}\n", encoding="utf-8")
                os.replace(temporary, self.digest_path)
                os.replace(self._partial, self.path)  # last: a shard in its place has its checksum
        finally:
            self._file.close()
            self._file = None

    def _images_done(self, file: io.FileIO) -> int:
        """How many images stand whole in the file; -1 where not even the header does."""
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        if file.read(len(self._header)) != self._header:
            return -1
        width = self.embed_dim * _DTYPE.itemsize
        rows, whole = (size - len(self._header)) // width, 0
        while whole < rows:  # a power cut may leave zeros where data was to come
            data = file.read(min(_BLOCK, rows - whole) * width)
            block = np.frombuffer(data[: len(data) // width * width], dtype=_DTYPE).reshape(-1, self.embed_dim)
            wrong = np.flatnonzero(~_unit(block))
            whole += int(wrong[0]) if len(wrong) else len(block)
            if len(wrong) or not len(block):
                break
        return int(np.searchsorted(self._offsets, whole, side="right")) - 1

    def _bytes(self, images: int) -> int:
        return int(self._offsets[images]) * self.embed_dim * _DTYPE.itemsize


def header_of(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """How a ``.npy`` file of such an array in C order begins."""
    buffer = io.BytesIO()
    facts: dict[str, Any] = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, facts)
    return buffer.getvalue()


def _write(file: io.FileIO, data: bytes) -> None:
    """All of it: an unbuffered write may stop early."""
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) :]


def _lock(file: io.FileIO, path: Path) -> None:
    """Take the file until it is closed, or the process dies; nothing where the system has no such locks.

    The lock is the process's own: with ``flock`` a data loader's worker that outlives it would go on holding it.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise RuntimeError(
            f"{path} must be written by one process alone. Another one is writing it: wait for it, or end it."
        ) from None
    except OSError:  # some network file systems
        return


def _unit(rows: NDArray[np.float16]) -> NDArray[np.bool_]:
    return np.abs(np.linalg.norm(rows.astype(np.float32), axis=1) - 1) <= _TOLERANCE  # False for NaN
