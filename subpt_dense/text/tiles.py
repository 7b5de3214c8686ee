"""Suffixes of unequal length packed into equal tiles (N classes, T packed tokens, B tokens a tile, P tokens before).

Batched matrix products want equal shapes, and suffixes differ in length. Buckets of equal length need a set of kernels
each; tiles that hold several whole suffixes need one set for all, and a mask that keeps the suffixes of a tile apart.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_SEARCHED = 32  # tile sizes tried, beyond the longest suffix when that is longer


@dataclass(frozen=True, eq=False)
class Tiles:
    """A vocabulary's suffixes, tile after tile; a class never crosses a tile's edge.

    Attributes:
        size: B.
        ids: Token ids, zeros where a tile has room left, ``[T]`` int64, T a multiple of B.
        positions: Positions in the whole prompt, ``[T]`` int64.
        mask: Added to the scores within a tile, ``[T / B, B, B]``: 0 from a token to its own class up to itself, else
            -inf.
        ends: Row of each class's [EOT], in tile order, ``[N]`` int64.
        rank: Where in tile order a class is, ``[N]`` int64: ``rows_in_tile_order[rank]`` are the rows in order.
        counts: Classes in each tile.
    """

    size: int
    ids: Tensor
    positions: Tensor
    mask: Tensor
    ends: Tensor
    rank: Tensor
    counts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.counts)

    def split(self, max_tokens: int) -> list["Tiles"]:
        """Consecutive parts of at most ``max_tokens`` tokens (one tile at least), each a whole by itself.

        The parts' rows in tile order, one after the other, are the whole's; their ``rank`` says so.
        """
        step = max(1, max_tokens // self.size)
        parts, seen = [], 0
        for first in range(0, len(self), step):
            counts = self.counts[first : first + step]
            rows = slice(first * self.size, (first + len(counts)) * self.size)
            ends = self.ends[seen : seen + sum(counts)] - rows.start
            rank = torch.arange(sum(counts), device=ends.device)
            mask = self.mask[first : first + step]
            parts.append(Tiles(self.size, self.ids[rows], self.positions[rows], mask, ends, rank, counts))
            seen += sum(counts)
        return parts


@torch.inference_mode(False)  # what is kept here will meet a graph, wherever it was first asked for
def pack_tiles(suffixes: Tensor, lengths: Sequence[int], start: int, width: int) -> Tiles:
    """Pack suffixes into tiles of the size that costs least.

    Args:
        suffixes: Token ids, padded at the end, ``[N, S]`` int64.
        lengths: Of the N suffixes, >= 1.
        start: P, the position of every suffix's first token in its prompt.
        width: W of the tower, which weighs a tile's unused tokens against its larger attention.
    """
    size, patterns = _best_size(Counter(lengths), width)
    waiting: dict[int, deque[int]] = {}
    for index, length in enumerate(lengths):
        waiting.setdefault(length, deque()).append(index)
    owner = torch.full((len(patterns), size), -1)  # the class a token belongs to
    offset = torch.zeros(len(patterns), size, dtype=torch.long)
    order, ends = [], []
    for tile, pattern in enumerate(patterns):
        row = 0
        for length in pattern:
            index = waiting[length].popleft()
            owner[tile, row : row + length] = index
            offset[tile, row : row + length] = torch.arange(length)
            row += length
            order.append(index)
            ends.append(tile * size + row - 1)
    device = suffixes.device
    owner, offset = owner.to(device), offset.to(device)
    visible = (owner[:, :, None] == owner[:, None, :]).tril()
    mask = torch.zeros(visible.shape, device=device).masked_fill_(~visible, float("-inf"))
    ids = torch.where(owner >= 0, suffixes[owner, offset], 0) if len(lengths) else owner
    rank = torch.empty(len(order), dtype=torch.long)
    rank[order] = torch.arange(len(order))
    return Tiles(
        size,
        ids.flatten(),
        (start + offset).flatten(),
        mask,
        torch.tensor(ends, dtype=torch.long, device=device),
        rank.to(device),
        tuple(map(len, patterns)),
    )


def _best_size(counts: Counter[int], width: int) -> tuple[int, list[list[int]]]:
    """The cheapest tile size for suffixes with these lengths, and the lengths in each tile."""
    longest = max(counts, default=1)
    packed = {size: _fill(counts, size) for size in range(longest, max(longest, _SEARCHED) + 1)}
    # A token costs 12 W multiplications (in units of W) and about 8 B for scores and softmax over its tile.
    size = min(packed, key=lambda size: len(packed[size]) * size * (12 * width + 8 * size))
    return size, packed[size]


def _fill(counts: Counter[int], size: int) -> list[list[int]]:
    """Tiles of ``size`` filled greedily with the longest suffix that still fits; equal tiles are found at once."""
    left = Counter(counts)
    tiles: list[list[int]] = []
    while left:
        room, taken = size, Counter[int]()
        for length in sorted(left, reverse=True):
            taken[length] = min(left[length], room // length)
            room -= length * taken[length]
        taken = +taken
        times = min(left[length] // number for length, number in taken.items())
        tiles += [sorted(taken.elements(), reverse=True)] * times
        for length, number in taken.items():
            left[length] -= number * times
        left = +left
    return tiles
