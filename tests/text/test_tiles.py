"""Suffixes packed into tiles: nothing lost, nothing seen that should not be."""

import random

import pytest
import torch

from subpt_dense.text.tiles import Tiles, pack_tiles

CASES = {
    "one": [3],
    "one long": [60],
    "all equal": [4] * 37,
    "as in COCO": [3] * 62 + [4] * 3,
    "one long among many": [3] * 100 + [58],
    "mixed": random.Random(0).choices(range(2, 12), k=300),
    "just as long as the search": [32, 31, 2, 2],
}


def pack(lengths: list[int], start: int = 5, width: int = 512) -> tuple[torch.Tensor, Tiles]:
    suffixes = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for i, length in enumerate(lengths):
        suffixes[i, :length] = 1000 * (i + 1) + torch.arange(length)
    return suffixes, pack_tiles(suffixes, lengths, start, width)


@pytest.mark.parametrize("lengths", CASES.values(), ids=CASES)
def test_every_suffix_is_found_whole_and_once(lengths: list[int]) -> None:
    suffixes, tiles = pack(lengths)
    assert tiles.ids.shape == tiles.positions.shape == (len(tiles) * tiles.size,)
    assert tiles.mask.shape == (len(tiles), tiles.size, tiles.size) and sum(tiles.counts) == len(lengths)
    assert sorted(tiles.rank.tolist()) == list(range(len(lengths)))
    for i, length in enumerate(lengths):
        end = int(tiles.ends[tiles.rank[i]])
        rows = slice(end - length + 1, end + 1)
        assert torch.equal(tiles.ids[rows], suffixes[i, :length])
        assert tiles.positions[rows].tolist() == list(range(5, 5 + length))
    assert (tiles.ids > 0).sum() == sum(lengths)


@pytest.mark.parametrize("lengths", CASES.values(), ids=CASES)
def test_a_token_sees_its_own_class_up_to_itself(lengths: list[int]) -> None:
    _, tiles = pack(lengths)
    owner = (tiles.ids // 1000).view(len(tiles), tiles.size)
    for tile in range(len(tiles)):
        for row in range(tiles.size):
            seen = (tiles.mask[tile, row] == 0).tolist()
            assert seen == [c <= row and bool(owner[tile, c] == owner[tile, row]) for c in range(tiles.size)]
    assert set(tiles.mask.unique().tolist()) <= {0.0, float("-inf")}


@pytest.mark.parametrize("lengths", CASES.values(), ids=CASES)
@pytest.mark.parametrize("width", [32, 512])
def test_little_room_is_left(lengths: list[int], width: int) -> None:
    _, tiles = pack(lengths, width=width)
    tokens = len(tiles) * tiles.size
    assert tokens < sum(lengths) + tiles.size or tokens <= 1.1 * sum(lengths)


@pytest.mark.parametrize("lengths", CASES.values(), ids=CASES)
@pytest.mark.parametrize("max_tokens", [1, 50, 10_000])
def test_parts_are_the_whole(lengths: list[int], max_tokens: int) -> None:
    _, tiles = pack(lengths)
    parts = tiles.split(max_tokens)
    assert all(len(part.ids) <= max(max_tokens, tiles.size) for part in parts)
    assert torch.equal(torch.cat([part.ids for part in parts]), tiles.ids)
    assert torch.equal(torch.cat([part.mask for part in parts]), tiles.mask)
    assert torch.equal(torch.cat([part.ids[part.ends] for part in parts]), tiles.ids[tiles.ends])
    for part in parts:
        assert part.rank.tolist() == list(range(sum(part.counts)))
