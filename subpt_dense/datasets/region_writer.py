"""Writing a region cache, so that a kill at any moment costs one image (I images, R regions, D embedding).

Everything but the embeddings is known beforehand, hence also which images a shard holds and how long its file gets. A
shard is filled image by image in ``<name>.partial``, behind its final header: the length of the file says how far it
has come. The manifest is written last.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from subpt_dense.datasets.files import file_sha256, write_json
from subpt_dense.datasets.proposals import ImageId, Proposals, check_boxes
from subpt_dense.datasets.region_cache import FORMAT, IMAGES, INDEX, JOB, MANIFEST, VERSION, load_index, read_manifest
from subpt_dense.datasets.region_shard import ShardWriter, header_of


class RegionWriter:
    """A folder that :meth:`claim` has prepared, to be filled by one process or by several.

    Args:
        folder: The cache's.

    Attributes:
        job: What was claimed.
        finished: Whether the manifest was there when the writer was made.
        proposals: The images and their regions, as memory maps.
        shards: The positions of the images in each shard.

    Raises:
        FileNotFoundError: If nobody has claimed the folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        job, self.finished = _held(self.folder)
        if job is None:
            raise FileNotFoundError(f"The folder {folder} must be prepared by RegionWriter.claim. It has no {JOB}.")
        self.job = job
        self.proposals = load_index(self.folder)
        offsets = self.proposals.offsets
        least = job.get("shard_regions")
        self.shards = plan_shards(offsets, default_shard_regions(int(offsets[-1])) if least is None else least)

    @classmethod
    def claim(cls, folder: str | Path, job: Mapping[str, Any], read: Callable[[], Proposals]) -> "RegionWriter":
        """Make the folder this job's, or go on with it where it is that already. By one process, before the others.

        Args:
            folder: New, empty, or of the same job.
            job: All that the embeddings depend on; it becomes part of the manifest. ``weights_hash``, ``embed_dim`` and
                ``proposals`` are needed; ``shard_regions`` sets the least size of a shard.
            read: Gives the proposals; called only where the folder does not hold them yet.

        Raises:
            FileExistsError: If the folder holds another job's cache, and both sides are named; or anything else.
        """
        folder = Path(folder)
        mine = json.loads(json.dumps({"format": FORMAT, "version": VERSION, **job}, allow_nan=False))
        folder.mkdir(parents=True, exist_ok=True)
        held, finished = _held(folder)
        if held is None:
            others = [path.name for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
            if others:
                raise FileExistsError(
                    f"The folder of a region cache must be new or empty. {folder} holds {', '.join(others[:5])}, and "
                    "no cache. Choose another folder."
                )
            write_json(folder / JOB, mine, indent=1)
        else:
            held = {key: value for key, value in held.items() if not finished or key not in _RESULTS}
            differing = [key for key in {**held, **mine} if held.get(key) != mine.get(key)]
            if differing:
                sides = "; ".join(f"{key}: the folder has {held.get(key)}, you ask for {mine.get(key)}"
                                  for key in differing)  # fmt: skip
                raise FileExistsError(
                    f"The region cache {folder} must be of the same job to go on with it. Got {sides}. Choose another "
                    "folder."
                )
        for name in INDEX if not finished else ():
            if not (folder / name).is_file():
                _write_index(folder, read())
                break
        return cls(folder)

    def bytes_to_write(self) -> int:
        """What is still to come on disk: embeddings, without the manifest's few kB."""
        total = sum(self._shard(number).length for number in range(len(self.shards)))
        there = sum(path.stat().st_size for path in self.folder.glob("embeddings_*.npy*") if path.suffix != ".sha256")
        return max(0, total - there)

    @contextmanager
    def shard(self, number: int) -> Iterator[ShardWriter]:
        """Open a shard for writing where it was left; one that is complete is moved to its place at the end.

        Raises:
            RuntimeError: If another process is writing it.
        """
        writer = self._shard(number)
        with writer:
            yield writer

    def finish(self) -> dict[str, Any]:
        """Write the manifest, once every shard is there.

        Returns:
            The manifest.

        Raises:
            RuntimeError: If a shard is missing; names it.
        """
        if self.finished:
            _tidy(self.folder)
            return read_manifest(self.folder)
        shards, missing = [], []
        for number, images in enumerate(self.shards):
            writer = self._shard(number)
            if not writer.complete:
                missing.append(writer.path.name)
                continue
            digest = writer.digest_path.read_text(encoding="utf-8").split()[0]
            shards.append({"file": writer.path.name, "images": len(images), "regions": writer.regions,
                           "bytes": writer.length, "sha256": digest})  # fmt: skip
        if missing:
            raise RuntimeError(
                f"The region cache {self.folder} must be complete before its manifest is written. Missing: "
                f"{', '.join(missing[:5])} ({len(missing)} of {len(self.shards)} shards). Run the extraction again."
            )
        index = [{"file": name, "bytes": (self.folder / name).stat().st_size, "sha256": file_sha256(self.folder / name)}
                 for name in INDEX]  # fmt: skip
        counts = {"images": len(self.proposals.image_ids), "regions": int(self.proposals.offsets[-1])}
        manifest = {**self.job, **counts, "index": index, "shards": shards}
        write_json(self.folder / MANIFEST, manifest, indent=1)
        _tidy(self.folder)
        self.finished = True
        return manifest

    def _shard(self, number: int) -> ShardWriter:
        path = self.folder / f"embeddings_{number:05d}.npy"
        return ShardWriter(path, self.shards[number], self.proposals.offsets, self.job["embed_dim"])


#: What the manifest has and a job has not.
_RESULTS = ("images", "regions", "index", "shards")


def write_regions(
    folder: str | Path,
    regions: Mapping[ImageId, tuple[ArrayLike, ArrayLike, ArrayLike]],
    *,
    backbone: str,
    weights: str,
    weights_hash: str,
    origin: str = "memory",
    **facts: Any,
) -> Path:
    """Write a cache of embeddings that are at hand, such as those made by another program.

    Args:
        folder: New or empty.
        regions: For each image boxes ``[N, 4]`` (x1 y1 x2 y2), scores ``[N]`` and unit embeddings ``[N, D]``.
        backbone: The open_clip model.
        weights: Its weights tag, or the name of the weights file.
        weights_hash: SHA-256 of its image tower, see ``ImageTower.weights_hash``.
        origin: ``proposals.kind`` of the manifest.
        facts: Further entries of the manifest, such as ``scales`` and ``crop_size``.

    Returns:
        The folder.

    Raises:
        FileExistsError: As for :meth:`RegionWriter.claim`.
        ValueError: If there is no image, or a shape or a length is wrong.
    """
    if not regions:
        raise ValueError("`regions` of write_regions must hold at least one image. Got none.")
    boxes = [np.asarray(found[0], dtype=np.float32).reshape(-1, 4) for found in regions.values()]
    scores = [np.asarray(found[1], dtype=np.float32).reshape(-1) for found in regions.values()]
    embeddings = [np.asarray(found[2]) for found in regions.values()]
    for image_id, *found in zip(regions, boxes, scores, embeddings, strict=True):
        if len({len(each) for each in found}) > 1 or found[2].ndim != 2:
            raise ValueError(
                "`regions` of write_regions must have boxes [N, 4], scores [N] and embeddings [N, D] for every image. "
                f"Got {[list(each.shape) for each in found]} for {image_id!r}."
            )
    reach = np.ceil(max([1.0, *(float(each.max()) for each in boxes if len(each))]))
    proposals = Proposals(
        image_ids=tuple(regions),
        files=tuple(str(image_id) for image_id in regions),
        sizes=np.full((len(regions), 2), reach, dtype=np.int32),
        offsets=np.cumsum([0, *(len(each) for each in boxes)]).astype(np.int64),
        boxes=np.concatenate(boxes),
        scores=np.concatenate(scores),
    )
    check_boxes(proposals, "write_regions")
    job = {
        **{"backbone": backbone, "weights": weights, "weights_hash": weights_hash},
        **{"embed_dim": embeddings[0].shape[1], "scales": [1.0]},
        "proposals": {"kind": origin, "file": None, "sha256": None},
    }
    writer = RegionWriter.claim(folder, job | facts, lambda: proposals)
    for number in range(len(writer.shards)):
        with writer.shard(number) as shard:
            for position in shard.todo:
                shard.append(position, embeddings[position])
    writer.finish()
    return Path(folder)


def default_shard_regions(regions: int) -> int:
    """Regions a shard: few files, for a process keeps each open, but enough to be divided among processes."""
    return min(max(2048, regions // 64), 131_072)


def plan_shards(offsets: NDArray[np.int64], least: int) -> list[range]:
    """Divide images into shards: each ends with the image that brings it to ``least`` regions.

    It does not depend on the number of processes, so neither do the files.

    Returns:
        Positions of the images in each shard; at least one shard.

    Raises:
        ValueError: If ``least`` is not positive.
    """
    if least < 1:
        raise ValueError(f"`shard_regions` must be at least 1. Got {least}.")
    shards, first, images = [], 0, len(offsets) - 1
    while first < images:
        end = min(int(np.searchsorted(offsets, offsets[first] + least)), images)
        shards.append(range(first, end))
        first = end
    return shards


def _held(folder: Path) -> tuple[dict[str, Any] | None, bool]:
    """(the job or manifest in a folder, or None; whether it is finished)."""
    if (folder / MANIFEST).is_file():
        return read_manifest(folder), True
    if (folder / JOB).is_file():
        return json.loads((folder / JOB).read_text(encoding="utf-8")), False
    return None, False


def _tidy(folder: Path) -> None:
    """Remove what a finished cache needs no more, and what killed writes left."""
    for leftover in (folder / JOB, *folder.glob(".*.tmp")):
        leftover.unlink(missing_ok=True)


def _write_index(folder: Path, proposals: Proposals) -> None:
    columns = (proposals.image_ids, proposals.files, *proposals.sizes.T.tolist())
    write_json(folder / IMAGES, [list(row) for row in zip(*columns, strict=True)])
    for name in ("boxes", "scores", "offsets"):
        values = np.ascontiguousarray(getattr(proposals, name))
        temporary = folder / f".{name}.npy.{os.getpid()}.tmp"
        with temporary.open("wb") as file:
            file.write(header_of(values.dtype, values.shape))
            file.write(values.tobytes())
        os.replace(temporary, folder / f"{name}.npy")
