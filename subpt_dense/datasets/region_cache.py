"""CLIP embeddings of regions, read from disk without a copy (I images, R regions, N of them in an image, D embedding).

::

    data/coco/regions/
      manifest.json                 what made the cache, and the size and SHA-256 of every file; written last
      images.json                   id, file, width and height of every image
      offsets.npy                   [I + 1] int64: image i has regions offsets[i] to offsets[i + 1]
      boxes.npy  scores.npy         [R, 4] and [R] float32
      embeddings_00000.npy, ...     [regions of whole images, D] float16; a .sha256 file beside each
"""

import functools
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from subpt_dense.datasets.files import file_sha256
from subpt_dense.datasets.proposals import ImageId, Proposals

FORMAT = "subpt_dense.regions"
VERSION = 1
MANIFEST = "manifest.json"
#: What an unfinished folder has in place of the manifest.
JOB = "job.json"
IMAGES = "images.json"
#: In the order in which they are written.
INDEX = (IMAGES, "boxes.npy", "scores.npy", "offsets.npy")


class _Maps(NamedTuple):
    """What a process opens once."""

    image_ids: tuple[ImageId, ...]
    positions: dict[ImageId, int]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    first_images: NDArray[np.int64]  # of every shard


class RegionCache:
    """Boxes, scores and unit CLIP embeddings of the regions of many images.

    Nothing is read before it is asked for, and nothing is copied then: every array is a read-only view of a memory map.
    A pickled cache carries no data; each process of a data loader opens its own maps, over the same pages.

    Args:
        folder: What ``tools/extract_regions.py`` or :class:`~subpt_dense.datasets.region_writer.RegionWriter` wrote.
        weights_hash: SHA-256 of the image tower that the embeddings must come from; None for any.
        verify: Also compare the SHA-256 of every file, which reads the whole cache.

    Attributes:
        folder: Its absolute path.
        manifest: ``format``, ``version``, ``backbone``, ``weights``, ``precision``, ``weights_hash``, ``embed_dim``,
            ``crop_size``, ``scales``, ``max_per_image``, ``batch_size``, ``proposals`` and ``annotations`` (``file``,
            ``sha256``; the former with ``kind``), the counts ``images`` and ``regions``, ``index`` and ``shards``.
        embed_dim: D.

    Raises:
        FileNotFoundError: If the folder holds no cache.
        ValueError: If the cache is of another format, unfinished, truncated, damaged (``verify``), of other weights, or
            stale: the proposal file that it names, where it still stands, is another one by now. Names both sides.
    """

    def __init__(self, folder: str | Path, *, weights_hash: str | None = None, verify: bool = False) -> None:
        self.folder = Path(folder).absolute()
        self.manifest = read_manifest(self.folder)
        self.embed_dim: int = self.manifest["embed_dim"]
        if weights_hash is not None and weights_hash != self.manifest["weights_hash"]:
            raise ValueError(
                f"The region cache {folder} must come from the image tower in use, with weights hash {weights_hash}. "
                f"It comes from {self.manifest['backbone']} ({self.manifest['weights']}), weights hash "
                f"{self.manifest['weights_hash']}. Extract the regions with the weights in use."
            )
        _check_sizes(self.folder, self.manifest)
        _check_proposals(self.folder, self.manifest["proposals"])
        if verify:
            _check_digests(self.folder, self.manifest)
        self._maps: _Maps | None = None
        self._shards: dict[int, NDArray[np.float16]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the maps."""
        return {**self.__dict__, "_maps": None, "_shards": {}}

    @property
    def image_ids(self) -> tuple[ImageId, ...]:
        """The I images, in the annotation file's order; those without a region too."""
        return self._open().image_ids

    def __contains__(self, image_id: object) -> bool:
        """Whether the image was among those extracted, with or without regions."""
        return image_id in self._open().positions

    def boxes(self, image_id: ImageId) -> NDArray[np.float32]:
        """The boxes ``[N, 4]``, x1 y1 x2 y2 in pixels of the original image; they may stick out of it.

        Raises:
            LookupError: If the cache does not know the image.
        """
        _, start, end = self._range(image_id)
        return self._open().boxes[start:end]

    def scores(self, image_id: ImageId) -> NDArray[np.float32]:
        """How likely each region is an object ``[N]``, falling; 1.0 for ground truth.

        Raises:
            LookupError: If the cache does not know the image.
        """
        _, start, end = self._range(image_id)
        return self._open().scores[start:end]

    def embeddings(self, image_id: ImageId) -> NDArray[np.float16]:
        """The embeddings ``[N, D]`` float16, in the order of the boxes; of length 1 up to float16's rounding.

        Raises:
            LookupError: If the cache does not know the image.
        """
        at, start, end = self._range(image_id)
        maps = self._open()
        shard = int(np.searchsorted(maps.first_images, at, side="right")) - 1
        if shard not in self._shards:
            self._shards[shard] = _map(self.folder / self.manifest["shards"][shard]["file"])
        origin = int(maps.offsets[maps.first_images[shard]])
        return self._shards[shard][start - origin : end - origin]

    def find(self, image_id: ImageId, boxes: ArrayLike) -> NDArray[np.float16]:
        """The embeddings ``[n, D]`` float16 of these very boxes, looked up by their bytes; of equal boxes the first's.

        Args:
            image_id: The image.
            boxes: ``[n, 4]``, x1 y1 x2 y2 as float32. A box ``[x, y, width, height]`` is cached as ``[x, y, x + width,
                y + height]``, added up in float64 and then rounded.

        Raises:
            LookupError: If the cache does not know the image or one of the boxes; names it.
            ValueError: If ``boxes`` are of another shape.
        """
        asked = np.asarray(boxes, dtype=np.float32)
        if asked.ndim != 2 or asked.shape[1] != 4:
            raise ValueError(f"`boxes` of RegionCache.find must have shape [n, 4]. Got {list(asked.shape)}.")
        known = {key: row for row, key in reversed(list(enumerate(_keys(self.boxes(image_id)))))}
        rows = [known.get(key, -1) for key in _keys(asked)]
        if -1 in rows:
            box = asked[rows.index(-1)].tolist()
            raise LookupError(
                f"The region cache {self.folder} must hold every box that is asked for. Image {image_id!r} has "
                f"{len(known)} cached boxes, and {box} (x1 y1 x2 y2) is none of them ({rows.count(-1)} of {len(rows)} "
                "are missing). Extract the regions for these boxes."
            )
        return self.embeddings(image_id)[rows]

    def _range(self, image_id: ImageId) -> tuple[int, int, int]:
        """(position of the image, its first region, the one behind its last)."""
        maps = self._open()
        at = maps.positions.get(image_id)
        if at is None:
            raise LookupError(
                f"The region cache {self.folder} must hold every image that is asked for. It does not know image "
                f"{image_id!r}, but {len(maps.positions)} others. Extract the regions for the annotation file in use."
            )
        return at, int(maps.offsets[at]), int(maps.offsets[at + 1])

    def _open(self) -> _Maps:
        if self._maps is None:
            index = load_index(self.folder)
            counts = [shard["images"] for shard in self.manifest["shards"]]
            self._maps = _Maps(
                index.image_ids,
                {image_id: at for at, image_id in enumerate(index.image_ids)},
                index.offsets,
                index.boxes,
                index.scores,
                np.cumsum([0, *counts[:-1]]),
            )
        return self._maps


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished cache.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is of another format or version, or the cache is not finished.
    """
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / JOB).is_file():
            raise ValueError(
                f"The region cache {folder} must be finished. It has no {MANIFEST} yet: run the same extraction again, "
                "which goes on where it stopped."
            )
        raise FileNotFoundError(
            f"The region cache {folder} does not exist: there is no {MANIFEST}. Make it with tools/extract_regions.py."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be JSON. Got: {error}. Extract the regions again.") from error
    found = (manifest.get("format"), manifest.get("version")) if isinstance(manifest, dict) else (None, None)
    if found != (FORMAT, VERSION):
        raise ValueError(f"{path} must have format {FORMAT!r} and version {VERSION}. Got {found[0]!r} and {found[1]}.")
    return manifest


def load_index(folder: Path) -> Proposals:
    """Images, boxes and scores of a cache, finished or not; the arrays are read-only memory maps."""
    images = json.loads((folder / IMAGES).read_text(encoding="utf-8"))
    return Proposals(
        image_ids=tuple(image[0] for image in images),
        files=tuple(image[1] for image in images),
        sizes=np.array([image[2:] for image in images], dtype=np.int32).reshape(-1, 2),
        offsets=_map(folder / "offsets.npy"),
        boxes=_map(folder / "boxes.npy"),
        scores=_map(folder / "scores.npy"),
    )


def _map(path: Path) -> NDArray[Any]:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _keys(boxes: NDArray[np.float32]) -> list[bytes]:
    """One key a box: its 16 bytes, with -0.0 as 0.0."""
    data = np.ascontiguousarray(boxes + np.float32(0)).tobytes()
    return [data[at : at + 16] for at in range(0, len(data), 16)]


def _check_sizes(folder: Path, manifest: dict[str, Any]) -> None:
    for file in [*manifest["index"], *manifest["shards"]]:
        path = folder / file["file"]
        found = path.stat().st_size if path.is_file() else None
        if found != file["bytes"]:
            got = "It is missing" if found is None else f"It has {found}"
            raise ValueError(
                f"{path} must have the {file['bytes']} bytes that {MANIFEST} says. {got}: the cache is truncated. Copy "
                "it again, or extract the regions again."
            )


def _check_digests(folder: Path, manifest: dict[str, Any]) -> None:
    for file in [*manifest["index"], *manifest["shards"]]:
        found = file_sha256(folder / file["file"])
        if found != file["sha256"]:
            raise ValueError(
                f"{folder / file['file']} must have the SHA-256 {file['sha256']} that {MANIFEST} says. Got {found}: "
                "the cache is damaged. Copy it again, or extract the regions again."
            )


def _check_proposals(folder: Path, proposals: dict[str, Any]) -> None:
    path = Path(os.path.normpath(folder / proposals["file"])) if proposals.get("file") else None
    if path is None or not path.is_file():
        return  # a cache may move without the file it was made from
    stat = path.stat()
    found = _digest(str(path), stat.st_size, stat.st_mtime_ns)
    if found != proposals["sha256"]:
        raise ValueError(
            f"The region cache {folder} must have been made from {path} as it is. The cache says SHA-256 "
            f"{proposals['sha256']}, the file has {found}: the cache is stale. Extract the regions again, into another "
            "folder."
        )


@functools.lru_cache(maxsize=64)
def _digest(path: str, size: int, changed: int) -> str:
    """Of gigabytes: once a process, as long as the file stays as it is."""
    return file_sha256(path)
