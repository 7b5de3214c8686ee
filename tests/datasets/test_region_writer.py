"""Writing a region cache: divided, stopped anywhere, taken up again, and always the same bytes."""

import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subpt_dense.datasets import Proposals, RegionCache, RegionWriter, write_regions
from subpt_dense.datasets.region_shard import ShardWriter
from subpt_dense.datasets.region_writer import default_shard_regions, plan_shards
from tests.datasets.region_files import files_of, some_regions, unit_rows

COUNTS = [3, 0, 5, 1, 0, 4, 4, 0]
JOB: dict[str, Any] = {"backbone": "tiny", "weights": "w", "weights_hash": "ab", "embed_dim": 6, "scales": [1.0, 1.5],
                       "proposals": {"kind": "file", "file": None, "sha256": None}, "shard_regions": 4}  # fmt: skip
REGIONS = some_regions({10 + at: count for at, count in enumerate(COUNTS)})


def proposals() -> Proposals:
    found = list(REGIONS.values())
    return Proposals(
        tuple(REGIONS), tuple(f"{i}.jpg" for i in REGIONS), np.full((len(REGIONS), 2), 100, dtype=np.int32),
        np.cumsum([0, *COUNTS]), np.concatenate([r[0] for r in found]), np.concatenate([r[1] for r in found]),
    )  # fmt: skip


def fill(writer: RegionWriter, shards: Any = None, images: int = 10**9) -> None:
    """Write these shards, stopping (as by an error) after so many images."""
    embeddings = [found[2] for found in REGIONS.values()]
    for number in range(len(writer.shards)) if shards is None else shards:
        with writer.shard(number) as shard:
            for position in shard.todo:
                if images == 0:
                    raise KeyboardInterrupt
                shard.append(position, embeddings[position])
                images -= 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole") / "r"
    writer = RegionWriter.claim(folder, JOB, proposals)
    fill(writer)
    writer.finish()
    return files_of(folder)


def test_what_lies_there_at_the_end(whole: dict[str, bytes], tmp_path: Path) -> None:
    shards = [f"embeddings_{n:05d}.npy" for n in range(4)]
    assert set(whole) == {"manifest.json", "images.json", "offsets.npy", "boxes.npy", "scores.npy", *shards,
                          *(f"{name}.sha256" for name in shards)}  # fmt: skip
    manifest = json.loads(whole["manifest.json"])
    assert {key: manifest[key] for key in JOB} == JOB and manifest["format"] == "subpt_dense.regions"
    assert (manifest["images"], manifest["regions"]) == (8, 17)
    for name, data in whole.items():
        (tmp_path / name).write_bytes(data)
    found = np.concatenate([np.load(tmp_path / name) for name in shards])
    np.testing.assert_array_equal(found, np.concatenate([r[2] for r in REGIONS.values()]).astype(np.float16))


@pytest.mark.parametrize("order", [[3, 1, 0, 2], [1, 3, 0, 2]])
def test_order_and_number_of_processes_do_not_matter(order: list[int], whole: Any, tmp_path: Path) -> None:
    RegionWriter.claim(tmp_path, JOB, proposals)
    for number in order:
        fill(RegionWriter(tmp_path), [number])
    RegionWriter(tmp_path).finish()
    assert files_of(tmp_path) == whole


@pytest.mark.parametrize("images", range(5))
def test_stopped_between_images(images: int, whole: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fill(RegionWriter.claim(tmp_path, JOB, proposals), images=images)
    writer = RegionWriter.claim(tmp_path, JOB, lambda: pytest.fail("the proposals are there already"))
    fill(writer)
    writer.finish()
    assert files_of(tmp_path) == whole


@pytest.mark.parametrize("cut", [0, 1, 60, 127, 128, 129, 150, 187, 188, 189, 220])
def test_stopped_within_a_write(cut: int, whole: Any, tmp_path: Path) -> None:
    """Shard 1 holds the header (128 bytes) and 5 rows of 12; a kill leaves any part of it."""
    writer = RegionWriter.claim(tmp_path, JOB, proposals)
    name = "embeddings_00001.npy"
    (tmp_path / f"{name}.partial").write_bytes((whole[name] + b"\0" * 99)[:cut])
    fill(writer)
    writer.finish()
    assert files_of(tmp_path) == whole


def test_finished_images_are_not_done_again(whole: Any, tmp_path: Path) -> None:
    writer = RegionWriter.claim(tmp_path, JOB | {"shard_regions": 100}, proposals)
    with writer.shard(0) as shard:
        assert shard.todo == (0, 2, 3, 5, 6)
        header = shard.length - 17 * 12
        for position in (0, 2):
            shard.append(position, list(REGIONS.values())[position][2])
        begun = (tmp_path / "embeddings_00000.npy.partial").read_bytes()
        assert begun[header:] == whole["embeddings_00000.npy"][128:], "the first two images with regions"
    with writer.shard(0) as shard:
        assert shard.todo == (3, 5, 6)


@pytest.mark.parametrize("rows", [0, 3, 4, 8])
def test_zeros_left_by_a_power_cut_are_done_again(rows: int, tmp_path: Path) -> None:
    writer = RegionWriter.claim(tmp_path, JOB | {"shard_regions": 100}, proposals)
    embeddings = np.concatenate([found[2] for found in REGIONS.values()]).astype(np.float16)
    embeddings[rows:] = 0
    path = tmp_path / "embeddings_00000.npy.partial"
    with writer.shard(0) as shard:
        header = path.read_bytes()
        done = int(np.searchsorted(writer.proposals.offsets, rows, side="right")) - 1
        left = tuple(position for position in shard.todo if position >= done)
    path.write_bytes(header + embeddings.tobytes())
    with writer.shard(0) as shard:
        assert shard.todo == left


def write_or_say(folder: Path, told: Any) -> None:
    try:
        fill(RegionWriter(folder), [0])
        told.send("written")
    except RuntimeError as error:
        told.send(str(error))


def test_only_one_process_writes_a_shard(tmp_path: Path) -> None:
    """Nor is one that was forked meanwhile, as a data loader's workers are, in the way of the next."""
    writer, context = RegionWriter.claim(tmp_path, JOB, proposals), multiprocessing.get_context("fork")
    heard, told = context.Pipe(duplex=False)
    with writer.shard(0):
        other = context.Process(target=write_or_say, args=(tmp_path, told))
        other.start()
        assert "embeddings_00000.npy.partial must be written by one process alone" in heard.recv()
        other.join()
        bystander = context.Process(target=time.sleep, args=(60,))
        bystander.start()
    other = context.Process(target=write_or_say, args=(tmp_path, told))
    other.start()
    assert heard.recv() == "written"
    bystander.kill()


def test_a_finished_cache_is_left_alone(whole: Any, tmp_path: Path) -> None:
    for name, data in whole.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "job.json").write_text("{}")  # a kill came just before it was removed
    (tmp_path / ".images.json.123.tmp").touch()
    writer = RegionWriter.claim(tmp_path, JOB, lambda: pytest.fail("nothing is to be read"))
    assert writer.finished and writer.bytes_to_write() == 0
    writer.finish()
    assert files_of(tmp_path) == whole


def test_a_kill_within_the_index(whole: Any, tmp_path: Path) -> None:
    RegionWriter.claim(tmp_path, JOB, proposals)
    (tmp_path / "offsets.npy").unlink()
    (tmp_path / ".offsets.npy.123.tmp").write_bytes(b"half")
    writer = RegionWriter.claim(tmp_path, JOB, proposals)
    fill(writer)
    writer.finish()
    assert files_of(tmp_path) == whole


def test_bytes_to_write(whole: Any, tmp_path: Path) -> None:
    total = sum(len(data) for name, data in whole.items() if name.endswith(".npy") and name.startswith("emb"))
    writer = RegionWriter.claim(tmp_path, JOB, proposals)
    assert writer.bytes_to_write() == total
    fill(writer, [0])
    assert writer.bytes_to_write() == total - len(whole["embeddings_00000.npy"])


def test_the_manifest_waits_for_every_shard(tmp_path: Path) -> None:
    writer = RegionWriter.claim(tmp_path, JOB, proposals)
    fill(writer, [0, 2])
    with pytest.raises(RuntimeError, match=r"Missing: embeddings_00001.npy, embeddings_00003.npy \(2 of 4 shards\)"):
        writer.finish()
    with pytest.raises(ValueError, match="must be finished"):
        RegionCache(tmp_path)


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights_hash": "cd"}, "weights_hash: the folder has ab, you ask for cd"),
        ({"scales": [1.0]}, r"scales: the folder has \[1.0, 1.5\], you ask for \[1.0\]"),
        ({"proposals": {"kind": "rpn"}}, "proposals: the folder has {'kind': 'file'.*you ask for {'kind': 'rpn'}"),
        ({"shard_regions": 9, "precision": "fp16"}, "shard_regions: .* 4, .* 9; precision: the folder has None"),
    ],
)
def test_a_folder_of_another_command_is_refused(
    change: dict[str, Any], message: str, finished: bool, tmp_path: Path
) -> None:
    writer = RegionWriter.claim(tmp_path, JOB, proposals)
    fill(writer)
    if finished:
        writer.finish()
    before = files_of(tmp_path)
    with pytest.raises(FileExistsError, match=message):
        RegionWriter.claim(tmp_path, JOB | change, proposals)
    assert files_of(tmp_path) == before


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="must be new or empty. .* holds notes.txt, and no cache"):
        RegionWriter.claim(tmp_path, JOB, proposals)


def test_a_folder_must_be_claimed_first(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="prepared by RegionWriter.claim. It has no job.json"):
        RegionWriter(tmp_path)


@pytest.mark.parametrize(
    ("position", "rows", "message"),
    [
        (2, unit_rows(5), "must come in order. It is the turn of image 0. Got 2"),
        (1, unit_rows(0), "must come in order"),
        (0, unit_rows(4), r"unit rows of shape \[3, 6\]. Got \[4, 6\]\."),
        (0, unit_rows(3, 5), r"unit rows of shape \[3, 6\]. Got \[3, 5\]\."),
        (0, 2 * unit_rows(3), r"Got \[3, 6\], not all of length 1"),
        (0, unit_rows(3) * np.array([[1], [np.nan], [1]]), "not all of length 1"),
    ],
)
def test_refused_embeddings(position: int, rows: np.ndarray, message: str, tmp_path: Path) -> None:
    writer = RegionWriter.claim(tmp_path, JOB, proposals)
    with writer.shard(0) as shard, pytest.raises(ValueError, match=message):
        shard.append(position, rows)


def test_nothing_is_written_outside_the_context(tmp_path: Path) -> None:
    shard = ShardWriter(tmp_path / "s.npy", range(1), np.array([0, 1]), 6)
    with pytest.raises(ValueError, match="None is left. Got 0"):
        shard.append(0, unit_rows(1))


PLANS = [
    ([3, 0, 5, 1, 0, 4], 4, [range(0, 3), range(3, 6)]),
    ([3, 0, 5, 1, 0, 4], 1, [range(0, 1), range(1, 3), range(3, 4), range(4, 6)]),
    ([3, 0, 5], 100, [range(0, 3)]),
    ([4, 0, 0], 4, [range(0, 1), range(1, 3)]),
    ([0, 0], 5, [range(0, 2)]),
]


@pytest.mark.parametrize(("counts", "least", "shards"), PLANS)
def test_plan(counts: list[int], least: int, shards: list[range]) -> None:
    assert plan_shards(np.cumsum([0, *counts]), least) == shards


def test_shard_sizes() -> None:
    assert [default_shard_regions(n) for n in (0, 9000, 640_000, 35_000_000)] == [2048, 2048, 10_000, 131_072]
    with pytest.raises(ValueError, match="`shard_regions` must be at least 1. Got 0"):
        plan_shards(np.array([0, 1]), 0)


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: {}, "at least one image"),
    (lambda: {1: (unit_rows(2, 4), np.ones(3), unit_rows(2))}, r"Got \[\[2, 4\], \[3\], \[2, 6\]\] for 1"),
    (lambda: {1: (np.zeros((1, 4)), np.ones(1), unit_rows(1))}, "Image 1 .* empty or not finite"),
]


@pytest.mark.parametrize(("regions", "message"), BAD)
def test_refused_regions(regions: Callable[[], Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_regions(tmp_path / "r", regions(), backbone="b", weights="w", weights_hash="h")
