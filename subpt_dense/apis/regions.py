"""Region extraction: proposals in, a cache of CLIP embeddings out (I images, R regions, N of an image, D embedding)."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import barrier, get_dist_info
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from subpt_dense.apis.region_embedder import RegionEmbedder
from subpt_dense.apis.region_images import RegionImages, read_ahead, require_images
from subpt_dense.classification.image_tower import ImageTower, get_image_tower
from subpt_dense.datasets.files import file_sha256
from subpt_dense.datasets.proposals import Proposals, read_ground_truth, read_proposals
from subpt_dense.datasets.region_writer import RegionWriter
from subpt_dense.text import TextSpec

_MIB = 1 << 20


def extract_regions(
    out: str | Path,
    *,
    annotations: str | Path,
    images: str | Path,
    clip: TextSpec,
    proposals: str | Path | None = None,
    proposal_facts: dict[str, Any] | None = None,
    scales: Sequence[float] = (1.0, 1.5),
    max_per_image: int = 300,
    batch_size: int = 64,
    shard_regions: int | None = None,
    workers: int = 0,
    device: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Embed the regions of all images into a cache that :class:`subpt_dense.datasets.RegionCache` reads.

    A run that was stopped at any moment goes on when it is called again, and ends in the same bytes. In a process group
    each rank fills shards of its own; the files do not depend on their number.

    Args:
        out: Folder of the cache.
        annotations: COCO or LVIS annotation file, which says what the images are.
        images: Their folder.
        clip: Whose image tower embeds.
        proposals: COCO results file with the boxes; None for the annotations' own boxes, all of them.
        proposal_facts: Where the proposals come from, kept in the manifest.
        scales: Crops of each region, about its centre; their unit embeddings are added up and normalised (ViLD, arXiv
            2104.13921, section 3.2).
        max_per_image: Proposals kept, by score.
        batch_size: Crops encoded at a time; never those of two images, so that a region's bytes depend on its image
            alone.
        shard_regions: Least size of a shard; None chooses it by the number of regions.
        workers: Processes that read images ahead.
        device: Where crops are cut and encoded; None for the best there is.
        console: Where progress goes.

    Returns:
        The cache's manifest.

    Raises:
        FileNotFoundError: If a file or an image is missing.
        FileExistsError: If ``out`` holds the cache of another command; both sides are named.
        OSError: If the disk has less room than what is still to be written.
        ValueError: If an argument or a file is wrong, see :func:`subpt_dense.datasets.read_proposals`.
    """
    for name, value in (("max_per_image", max_per_image), ("shard_regions", shard_regions)):
        if value is not None and value < 1:
            raise ValueError(f"`{name}` of extract_regions must be at least 1. Got {value}.")
    place = torch.device(device or get_device())
    tower = get_image_tower(clip, place)
    embed = RegionEmbedder(tower, place, scales=scales, batch_size=batch_size)
    rank, world = get_dist_info()
    console = console or Console(stderr=True, quiet=rank > 0)
    if rank == 0:
        job = {
            **_tower_facts(clip, tower),
            **{"scales": [float(scale) for scale in scales], "batch_size": batch_size, "shard_regions": shard_regions},
            **_source_facts(out, annotations, proposals, proposal_facts, max_per_image),
        }
        writer = RegionWriter.claim(out, job, lambda: _read(proposals, annotations, max_per_image))
        if not writer.finished:
            require_images(images, writer.proposals)
            _announce(writer, console)
    barrier()
    writer = RegionWriter(out)
    if not writer.finished:
        _fill(writer, range(rank, len(writer.shards), world), embed, Path(images), workers, console)
        barrier()
    if rank > 0:
        return writer.job
    manifest = writer.finish()
    console.print(f"{out}: {manifest['regions']:,} regions of {manifest['images']:,} images", highlight=False)
    return manifest


def _fill(
    writer: RegionWriter,
    shards: range,
    embed: RegionEmbedder,
    folder: Path,
    workers: int,
    console: Console,
) -> None:
    """Do what is left of these shards, with a bar of their regions."""
    proposals, offsets = writer.proposals, writer.proposals.offsets
    images = RegionImages(folder, proposals.files, proposals.sizes)
    total = sum(int(offsets[writer.shards[n].stop] - offsets[writer.shards[n].start]) for n in shards)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=console) as progress:
        task = progress.add_task("regions", total=total)
        for number in shards:
            with writer.shard(number) as shard:
                left = sum(len(proposals.boxes_of(position)) for position in shard.todo)
                progress.advance(task, shard.regions - left)
                for position, image in read_ahead(images, shard.todo, workers):
                    boxes = proposals.boxes_of(position)
                    try:
                        shard.append(position, embed(image, boxes))
                    except ValueError as error:
                        raise ValueError(f"Image {folder / proposals.files[position]}: {error}") from error
                    progress.advance(task, len(boxes))


def _read(proposals: str | Path | None, annotations: str | Path, max_per_image: int) -> Proposals:
    if proposals is None:
        return read_ground_truth(annotations)
    return read_proposals(proposals, annotations, max_per_image=max_per_image)


def _announce(writer: RegionWriter, console: Console) -> None:
    """Say what comes, and refuse what has no room."""
    images, regions, needed = len(writer.proposals.files), int(writer.proposals.offsets[-1]), writer.bytes_to_write()
    free = shutil.disk_usage(writer.folder).free
    console.print(
        f"{writer.folder}: {images:,} images, {regions:,} regions in {len(writer.shards)} shards; "
        f"{needed / _MIB:,.1f} MiB still to write, {free / _MIB:,.0f} MiB free",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    if needed > free:
        raise OSError(
            f"The disk of {writer.folder} must have {needed / _MIB:,.1f} MiB free for what is still to be written. It "
            f"has {free / _MIB:,.1f} MiB. Free some, or take fewer regions by `max_per_image`."
        )


def _tower_facts(clip: TextSpec, tower: ImageTower) -> dict[str, Any]:
    return {
        "backbone": clip.model,
        "weights": Path(clip.pretrained).name,
        "precision": clip.precision,
        "weights_hash": tower.weights_hash,
        "embed_dim": tower.embed_dim,
        "crop_size": tower.size,
    }


def _source_facts(
    out: str | Path,
    annotations: str | Path,
    proposals: str | Path | None,
    more: dict[str, Any] | None,
    max_per_image: int,
) -> dict[str, Any]:
    kind = "ground_truth" if proposals is None else "file"
    return {
        "max_per_image": None if proposals is None else max_per_image,
        "proposals": {"kind": kind, **_file_facts(proposals or annotations, out), **(more or {})},
        "annotations": _file_facts(annotations, out),
    }


def _file_facts(path: str | Path, folder: str | Path) -> dict[str, str]:
    """A file by its path from the cache's folder, with which it may move, and by what is in it.

    Raises:
        FileNotFoundError: If it does not exist.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"The annotation or proposal file {path} does not exist.")
    return {"file": Path(os.path.relpath(path, folder)).as_posix(), "sha256": file_sha256(path)}
