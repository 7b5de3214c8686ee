"""Suffixes of unequal length packed into equal tiles (N classes, T packed tokens, B tokens a tile, P tokens before).

Suffixes that begin alike share their first tokens, as all share the prefix: in a causal tower a token's state depends
on what stands before it alone. What is left of them is a forest, and batched matrix products want equal shapes.
Buckets of equal size would need a set of kernels each; tiles that hold several whole trees need one set for all, and a
mask that lets a token see its ancestors only.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

_SEARCHED = 32  # tile sizes tried, beyond the longest suffix when that is longer

_Suffix = tuple[int, ...]
_Tree = list[_Suffix]  # suffixes with one first token, sorted: neighbours share the longest beginnings


@dataclass(frozen=True, eq=False)
class Tiles:
    """A vocabulary's suffixes, tile after tile; what a token sees never crosses a tile's edge.

    Attributes:
        size: B.
        ids: Token ids, zeros where a tile has room left, ``[T]`` int64, T a multiple of B.
        positions: Positions in the whole prompt, ``[T]`` int64.
        mask: Added to the scores within a tile, ``[T / B, B, B]``: 0 from a token to itself and to the tokens of its
            suffix before it, else -inf.
        ends: Rows of the distinct suffixes' [EOT], ascending, ``[E]`` int64, E <= N.
        rank: Which of the ends is a class's, ``[N]`` int64.
        counts: Ends in each tile.
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

    @torch.inference_mode(False)  # what is kept will meet a graph, wherever it was first asked for
    def to(self, device: torch.device) -> "Tiles":
        """On another device."""
        ids, positions, mask = self.ids.to(device), self.positions.to(device), self.mask.to(device)
        return Tiles(self.size, ids, positions, mask, self.ends.to(device), self.rank.to(device), self.counts)

    def split(self, max_tokens: int) -> list["Tiles"]:
        """Consecutive parts of at most ``max_tokens`` tokens (one tile at least), each a whole by itself.

        The parts' ends, one part after the other, are the whole's; each part's ``rank`` counts its own.
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


@torch.inference_mode(False)
def pack_tiles(suffixes: Sequence[Sequence[int]], start: int, width: int) -> Tiles:
    """Pack suffixes into tiles of the size that costs least.

    Args:
        suffixes: Token ids of the N suffixes, each with one at least.
        start: P, the position of every suffix's first token in its prompt.
        width: W of the tower, which weighs a tile's unused tokens against its larger attention.

    Returns:
        Tensors on the CPU.
    """
    distinct = sorted(set(map(tuple, suffixes)))
    size, tiles = _best_size([list(tree) for _, tree in groupby(distinct, key=lambda suffix: suffix[0])], width)
    ids, positions, seen = [0] * (len(tiles) * size), [0] * (len(tiles) * size), list[int]()
    ends: dict[_Suffix, int] = {}
    for tile, trees in enumerate(tiles):
        row, path, before = tile * size, list[int](), _Suffix()  # path: the rows of the suffix that is written
        for suffix in (suffix for tree in trees for suffix in tree):
            path = path[: _common(before, suffix)]
            for token in suffix[len(path) :]:
                path.append(row)
                ids[row], positions[row] = token, start + len(path) - 1
                seen += [row * size + ancestor - tile * size for ancestor in path]
                row += 1
            ends[suffix] = path[-1]
            before = suffix
    mask = torch.full((len(tiles), size, size), float("-inf"))
    mask.diagonal(dim1=1, dim2=2).zero_()
    mask.view(-1)[torch.tensor(seen, dtype=torch.long)] = 0
    places = {suffix: place for place, suffix in enumerate(ends)}
    return Tiles(
        size,
        torch.tensor(ids, dtype=torch.long),
        torch.tensor(positions, dtype=torch.long),
        mask,
        torch.tensor(list(ends.values()), dtype=torch.long),
        torch.tensor([places[tuple(suffix)] for suffix in suffixes], dtype=torch.long),
        tuple(sum(map(len, trees)) for trees in tiles),
    )


def _common(a: _Suffix, b: _Suffix) -> int:
    """How many first tokens two suffixes share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _best_size(trees: Sequence[_Tree], width: int) -> tuple[int, list[list[_Tree]]]:
    """The cheapest tile size, and the trees in each tile; trees larger than a tile are cut into several."""
    longest = max((len(suffix) for tree in trees for suffix in tree), default=1)
    whole = [piece for tree in trees for piece in _cut(tree, None)]
    best, least = (longest, list[tuple[int, _Tree]](), list[list[int]]()), float("inf")
    for size in range(longest, max(longest, _SEARCHED) + 1):
        pieces = [p for n, tree in whole for p in ([(n, tree)] if n <= size else _cut(tree, size))]
        tiles = _fill(Counter(n for n, _ in pieces), size)
        cost = len(tiles) * size * _token_cost(size, width)
        if cost < least:
            best, least = (size, pieces, tiles), cost
    size, pieces, tiles = best
    waiting: dict[int, list[_Tree]] = {}
    for tokens, tree in pieces:
        waiting.setdefault(tokens, []).append(tree)
    return size, [[waiting[tokens].pop() for tokens in tile] for tile in tiles]


def _token_cost(size: int, width: int) -> float:
    """Of one token, in multiplications by W: 12 W in linear layers; the rest was fitted to timings of the attention.

    Small tiles make many small matrix products, large ones compute scores that the mask drops.
    """
    return 12 * width + 2000 / size + 7 * size


def _fill(counts: Counter[int], size: int) -> list[list[int]]:
    """Tree sizes in each tile, the largest that still fits first; tiles that come out equal are found at once."""
    left, tiles = Counter(counts), list[list[int]]()
    while left:
        room, taken = size, Counter[int]()
        for tokens in sorted(left, reverse=True):
            taken[tokens] = min(left[tokens], room // tokens)
            room -= tokens * taken[tokens]
        taken = +taken
        times = min(left[tokens] // number for tokens, number in taken.items())
        tiles += [list(taken.elements())] * times
        for tokens, number in taken.items():
            left[tokens] -= number * times
        left = +left
    return tiles


def _cut(tree: _Tree, size: int | None) -> list[tuple[int, _Tree]]:
    """Pieces of at most ``size`` tokens (``None``: one piece), with their sizes; what two share is computed twice."""
    pieces: list[tuple[int, _Tree]] = []
    for suffix in tree:
        if pieces:
            tokens, piece = pieces[-1]
            more = len(suffix) - _common(piece[-1], suffix)
            if size is None or tokens + more <= size:
                piece.append(suffix)
                pieces[-1] = (tokens + more, piece)
                continue
        pieces.append((len(suffix), [suffix]))
    return pieces
