"""What a region cache gives, that it copies nothing, and what it refuses."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from subpt_dense.datasets import RegionCache, file_sha256, write_json, write_regions
from subpt_dense.datasets.region_cache import load_index
from tests.datasets.region_files import some_regions

COUNTS = {7: 3, "b": 0, 2: 5, 11: 1, 12: 0}
FACTS: dict[str, Any] = {"backbone": "tiny", "weights": "tiny.safetensors", "weights_hash": "ab" * 32}


@pytest.fixture
def regions() -> dict[Any, tuple[np.ndarray, ...]]:
    return some_regions(COUNTS)


@pytest.fixture
def folder(tmp_path: Path, regions: Any) -> Path:
    """Two images a shard, the last with none."""
    return write_regions(tmp_path / "regions", regions, **FACTS, shard_regions=3)


def base_of(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def test_gives_what_was_written(folder: Path, regions: Any) -> None:
    cache = RegionCache(folder, weights_hash="ab" * 32)
    assert cache.image_ids == tuple(COUNTS) and cache.embed_dim == 6
    assert cache.manifest["images"] == 5 and cache.manifest["regions"] == 9
    assert [shard["regions"] for shard in cache.manifest["shards"]] == [3, 5, 1]
    for image_id, (boxes, scores, embeddings) in regions.items():
        np.testing.assert_array_equal(cache.boxes(image_id), boxes)
        np.testing.assert_array_equal(cache.scores(image_id), scores)
        np.testing.assert_array_equal(cache.embeddings(image_id), embeddings.astype(np.float16))
        assert (cache.boxes(image_id).dtype, cache.embeddings(image_id).dtype) == (np.float32, np.float16)
    assert 7 in cache and "b" in cache and 99 not in cache


def test_an_image_without_regions(folder: Path) -> None:
    cache = RegionCache(folder)
    for image_id in ("b", 12):
        assert cache.boxes(image_id).shape == (0, 4) and cache.scores(image_id).shape == (0,)
        assert cache.embeddings(image_id).shape == (0, 6) == cache.find(image_id, np.zeros((0, 4))).shape


def test_no_image_has_regions(tmp_path: Path) -> None:
    cache = RegionCache(write_regions(tmp_path / "r", some_regions({1: 0, 2: 0}), **FACTS), verify=True)
    assert cache.embeddings(2).shape == (0, 6) and len(cache.manifest["shards"]) == 1


def test_nothing_is_copied(folder: Path) -> None:
    cache = RegionCache(folder)
    for read in (cache.boxes, cache.scores, cache.embeddings):
        assert np.shares_memory(read(2), read(2)), "two reads, one memory"
        assert isinstance(base_of(read(2)), np.memmap) and not read(2).flags.writeable
    torch.from_numpy(np.array(cache.embeddings(2)))  # what a training step does: a copy of its own


def test_nothing_is_opened_before_it_is_asked_for(folder: Path) -> None:
    cache = RegionCache(folder)
    assert cache._maps is None and not cache._shards
    cache.boxes(7)
    assert not cache._shards
    cache.embeddings(2)
    assert list(cache._shards) == [1]


def test_pickle_carries_no_data(folder: Path, regions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    cache = RegionCache(folder.name)  # relative: a worker may stand elsewhere
    cache.embeddings(2)
    data = pickle.dumps(cache)
    assert len(data) < 5000
    monkeypatch.chdir("/")
    twin = pickle.loads(data)
    assert twin._maps is None
    np.testing.assert_array_equal(twin.embeddings(2), regions[2][2].astype(np.float16))


class Reading(Dataset):
    """Asks a cache."""

    def __init__(self, cache: RegionCache) -> None:
        self.cache, self.ids = cache, [i for i, count in COUNTS.items() if count]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, at: int) -> tuple[bool, torch.Tensor]:
        first = self.cache._maps is None or not self.cache._shards
        rows = self.cache.embeddings(self.ids[at])
        assert isinstance(base_of(rows), np.memmap)
        return first, torch.from_numpy(np.array(rows))


def test_workers_open_their_own_maps(folder: Path, regions: Any) -> None:
    data = Reading(RegionCache(folder))
    found = list(DataLoader(data, batch_size=None, num_workers=2))
    assert any(first for first, _ in found) and data.cache._maps is None
    for image_id, (_, rows) in zip(data.ids, found, strict=True):
        np.testing.assert_array_equal(rows.numpy(), regions[image_id][2].astype(np.float16))


def test_find(folder: Path, regions: Any) -> None:
    cache = RegionCache(folder)
    boxes, _, embeddings = regions[2]
    order = [4, 0, 4]
    np.testing.assert_array_equal(cache.find(2, boxes[order].tolist()), embeddings[order].astype(np.float16))
    np.testing.assert_array_equal(cache.find(2, torch.from_numpy(boxes)), embeddings.astype(np.float16))


def test_find_takes_the_first_of_equal_boxes_and_minus_zero(tmp_path: Path) -> None:
    (boxes, scores, embeddings) = some_regions({1: 3})[1]
    boxes[0, 0], boxes[2] = 0.0, boxes[1]
    cache = RegionCache(write_regions(tmp_path / "r", {1: (boxes, scores, embeddings)}, **FACTS))
    asked = boxes[[2, 0]]
    asked[1, 0] = -0.0
    np.testing.assert_array_equal(cache.find(1, asked), embeddings[[1, 0]].astype(np.float16))


def test_a_miss_is_an_error(folder: Path, regions: Any) -> None:
    cache = RegionCache(folder)
    boxes = regions[2][0].copy()
    boxes[3, 2] = np.nextafter(boxes[3, 2], np.float32(99))
    with pytest.raises(LookupError, match=r"Image 2 has 5 cached boxes, and \[.*\] .* is none of them \(1 of 5"):
        cache.find(2, boxes)
    with pytest.raises(LookupError, match="does not know image 99, but 5 others"):
        cache.boxes(99)
    for read in (cache.scores, cache.embeddings):
        with pytest.raises(LookupError, match="image '7'"):
            read("7")
    with pytest.raises(ValueError, match=r"must have shape \[n, 4\]. Got \[4\]"):
        cache.find(2, boxes[0])


def test_other_weights_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=rf"hash {'cd' * 32}. It comes from tiny \(tiny.safetensors\), .*{'ab' * 32}"):
        RegionCache(folder, weights_hash="cd" * 32)


def resized(path: Path, change: int) -> None:
    data = path.read_bytes()
    path.write_bytes(data + b"x" * change if change > 0 else data[:change])


@pytest.mark.parametrize("change", [-1, -40, 1])
@pytest.mark.parametrize("name", ["embeddings_00001.npy", "boxes.npy", "images.json"])
def test_a_truncated_cache_is_refused(folder: Path, name: str, change: int) -> None:
    resized(folder / name, change)
    with pytest.raises(ValueError, match=rf"{name} must have the \d+ bytes .* It has \d+: the cache is truncated"):
        RegionCache(folder)


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "embeddings_00001.npy").unlink()
    with pytest.raises(ValueError, match="embeddings_00001.npy must have .* It is missing"):
        RegionCache(folder)


@pytest.mark.parametrize("name", ["embeddings_00000.npy", "scores.npy", "images.json"])
def test_a_changed_byte_is_found_on_request(folder: Path, name: str) -> None:
    RegionCache(folder, verify=True)
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    RegionCache(folder)
    with pytest.raises(ValueError, match=rf"{name} must have the SHA-256 .* Got .* damaged"):
        RegionCache(folder, verify=True)


def test_a_stale_cache_is_refused(tmp_path: Path, regions: Any) -> None:
    proposals = tmp_path / "p.json"
    proposals.write_text("[]")
    facts = {"kind": "file", "file": "../p.json", "sha256": file_sha256(proposals)}
    folder = write_regions(tmp_path / "regions", regions, **FACTS, proposals=facts)
    RegionCache(folder)
    proposals.write_text("[ ]")
    with pytest.raises(ValueError, match=rf"p.json as it is. The cache says SHA-256 {facts['sha256']}, .* stale"):
        RegionCache(folder)
    shutil.move(folder, tmp_path / "deeper" / "regions")
    RegionCache(tmp_path / "deeper" / "regions")  # it has moved without the file


def test_no_cache(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist: .* Make it with tools/extract_regions.py"):
        RegionCache(tmp_path / "nowhere")


def test_an_unfinished_cache_is_refused(folder: Path) -> None:
    (folder / "manifest.json").rename(folder / "job.json")
    with pytest.raises(ValueError, match="must be finished. It has no manifest.json yet: run the same extraction"):
        RegionCache(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": "other"}, "Got 'other' and 1"), ({"version": 2}, "Got 'subpt_dense.regions' and 2")],
)
def test_a_foreign_cache_is_refused(folder: Path, change: dict[str, Any], message: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", manifest | change)
    with pytest.raises(ValueError, match=f"must have format 'subpt_dense.regions' and version 1. {message}"):
        RegionCache(folder)


@pytest.mark.parametrize("text", ["[1]", "{"])
def test_a_manifest_that_is_none(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="manifest.json must"):
        RegionCache(folder)


def test_the_index_needs_no_pickles(folder: Path) -> None:
    np.save(folder / "scores.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        load_index(folder)
