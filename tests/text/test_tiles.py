"""Suffixes packed into tiles: nothing lost, nothing seen that should not be, beginnings shared."""

import random

import pytest
import torch

from subpt_dense.text.tiles import Tiles, pack_tiles

Suffixes = list[list[int]]


def apart(*lengths: int) -> Suffixes:
    """Suffixes of these lengths with no common beginning."""
    return [[1000 * (i + 1) + k for k in range(length)] for i, length in enumerate(lengths)]


def drawn(count: int, tokens: int, seed: int) -> Suffixes:
    """Suffixes over few tokens, so that many begin alike and some are equal."""
    draw = random.Random(seed)
    return [[*draw.choices(range(1, tokens + 1), k=draw.randint(1, 6)), 99, 100] for _ in range(count)]


CASES = {
    "one": apart(3),
    "one long": apart(60),
    "all equal in length": apart(*[4] * 37),
    "as in COCO": apart(*[3] * 62, *[4] * 3),
    "one long among many": apart(*[3] * 100, 58),
    "just as long as the search": apart(32, 31, 2, 2),
    "mixed": apart(*random.Random(0).choices(range(2, 12), k=300)),
    "the same twice": [[1, 2, 3], [4, 5], [1, 2, 3]],
    "a tree": [[1, 2, 9, 10], [1, 9, 10], [1, 2, 3, 9, 10], [1, 3, 9, 10]],
    "a tree larger than a tile": [[1, i, 99, 100] for i in range(2, 90)],
    "trees": drawn(200, 5, 0),
    "bushes": drawn(100, 30, 1),
}


def pack(suffixes: Suffixes, width: int = 512) -> Tiles:
    return pack_tiles(suffixes, 5, width)


def path(tiles: Tiles, end: int) -> list[int]:
    """The rows that a row sees, its own last."""
    tile, row = divmod(end, tiles.size)
    return [tile * tiles.size + seen for seen in range(tiles.size) if tiles.mask[tile, row, seen] == 0]


@pytest.mark.parametrize("suffixes", CASES.values(), ids=CASES)
def test_every_end_sees_its_suffix_and_nothing_else(suffixes: Suffixes) -> None:
    tiles = pack(suffixes)
    assert tiles.ids.shape == tiles.positions.shape == (len(tiles) * tiles.size,)
    assert tiles.mask.shape == (len(tiles), tiles.size, tiles.size)
    for suffix, rank in zip(suffixes, tiles.rank.tolist(), strict=True):
        rows = path(tiles, int(tiles.ends[rank]))
        assert tiles.ids[rows].tolist() == suffix
        assert tiles.positions[rows].tolist() == list(range(5, 5 + len(suffix)))


@pytest.mark.parametrize("suffixes", CASES.values(), ids=CASES)
def test_a_token_sees_what_its_successors_see(suffixes: Suffixes) -> None:
    tiles = pack(suffixes)
    for end in tiles.ends.tolist():
        rows = path(tiles, end)
        assert rows == sorted(rows) and rows[-1] == end
        assert all(path(tiles, row) == rows[: i + 1] for i, row in enumerate(rows))
    assert set(tiles.mask.unique().tolist()) <= {0.0, float("-inf")}
    unused = (tiles.ids == 0).nonzero()[:, 0].tolist()
    assert all(path(tiles, row) == [row] for row in unused), "a row that sees nothing would have no softmax"


@pytest.mark.parametrize("suffixes", CASES.values(), ids=CASES)
def test_ends_are_distinct_and_counted(suffixes: Suffixes) -> None:
    tiles = pack(suffixes)
    assert len(tiles.ends) == len(set(map(tuple, suffixes))) == len(set(tiles.ends.tolist()))
    assert tiles.ends.tolist() == sorted(tiles.ends.tolist())
    found = torch.bincount(tiles.ends // tiles.size, minlength=len(tiles))
    assert found.tolist() == list(tiles.counts)


@pytest.mark.parametrize("suffixes", CASES.values(), ids=CASES)
@pytest.mark.parametrize("width", [32, 512])
def test_little_is_computed_twice_and_little_room_is_left(suffixes: Suffixes, width: int) -> None:
    tiles = pack(suffixes, width)
    beginnings = {tuple(suffix[: i + 1]) for suffix in suffixes for i in range(len(suffix))}
    used = int((tiles.ids > 0).sum())
    assert len(beginnings) <= used <= 1.2 * len(beginnings)
    assert len(tiles.ids) < used + tiles.size or len(tiles.ids) <= 1.15 * used


@pytest.mark.parametrize("suffixes", CASES.values(), ids=CASES)
@pytest.mark.parametrize("max_tokens", [1, 50, 10_000])
def test_parts_are_the_whole(suffixes: Suffixes, max_tokens: int) -> None:
    tiles = pack(suffixes)
    parts = tiles.split(max_tokens)
    assert all(len(part.ids) <= max(max_tokens, tiles.size) for part in parts)
    assert torch.equal(torch.cat([part.ids for part in parts]), tiles.ids)
    assert torch.equal(torch.cat([part.mask for part in parts]), tiles.mask)
    assert torch.equal(torch.cat([part.ids[part.ends] for part in parts]), tiles.ids[tiles.ends])
    for part in parts:
        assert part.rank.tolist() == list(range(sum(part.counts)))


def test_nothing_to_pack() -> None:
    tiles = pack([])
    assert len(tiles) == 0 and len(tiles.ids) == len(tiles.ends) == len(tiles.rank) == 0
