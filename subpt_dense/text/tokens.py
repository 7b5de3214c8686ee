"""Prompts of a vocabulary around a learned context, as token ids (N names, M context tokens, S longest prompt)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from subpt_dense.text.names import clean_name
from subpt_dense.text.tiles import Tiles, pack_tiles
from subpt_dense.text.tower import TextTower

POSITIONS = ("end", "middle", "front")


@dataclass(frozen=True, eq=False)
class PromptTokens:
    """What stands around the learned context, made once per vocabulary and context length by :func:`pack_names`.

    Attributes:
        names: The N names, in the order of the rows. A name may occur twice (in a vocabulary and as an anchor).
        context_length: M, the tokens of the learned context.
        position: Of the name: ``"end"``, ``"middle"`` or ``"front"``.
        width: W of the tower they were packed for.
        ids: Whole prompts from [SOS] to [EOT], padded with zeros; zeros also where the context goes. ``[N, S]`` int64.
        slots: Where the context's tokens go, ``[N, M]`` int64.
        end: Position of [EOT], ``[N]`` int64, in [M + 2, L).
    """

    names: tuple[str, ...]
    context_length: int
    position: str
    width: int
    ids: Tensor
    slots: Tensor
    end: Tensor

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def tiles(self) -> Tiles:
        """`name. [EOT]` of every class packed without padding, for prompts that share what stands before it."""
        start = 1 + self.context_length
        suffixes = [row[start : end + 1] for row, end in zip(self.ids.tolist(), self.end.tolist(), strict=True)]
        return pack_tiles(suffixes, start, self.width).to(self.ids.device)


@torch.inference_mode(False)
def pack_names(tower: TextTower, names: Sequence[str], context_length: int, position: str = "end") -> PromptTokens:
    """Tokenise names for a learned context before, around or behind them (CoOp, arXiv 2109.01134, eq. 2 and 3).

    ``"end"``: `[SOS] v1..vM name. [EOT]`, `name.` tokenised as one string, as CoOp does: a closing bracket and the full
    stop after it are one token. ``"middle"``: `[SOS] v1..vM/2 name vM/2+1..vM . [EOT]`. ``"front"``: `[SOS] name v1..vM
    . [EOT]`; in these two the name stands apart from the full stop (CoOp leaves a `).` with the name).

    Args:
        tower: Whose tokenizer and length count.
        names: N names; underscores become spaces.
        context_length: M >= 0.
        position: Where the name stands.

    Returns:
        Tokens on the tower's device.

    Raises:
        ValueError: If M is negative, the position unknown, or a prompt does not fit into what the tower reads.
    """
    prompts = _split_prompts(tower, names, context_length, position)
    first = context_length // 2 if position == "middle" else 0  # context tokens before the name
    rest = context_length - first
    rows = [[start, *[0] * first, *name, *[0] * rest, *after] for start, name, after in prompts]
    longest = max(map(len, rows), default=context_length + 2)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.long).view(-1, longest)
    shifts = torch.tensor([len(name) for _, name, _ in prompts], dtype=torch.long)[:, None]
    place = torch.arange(context_length)
    slots = 1 + place + shifts * (place >= first)  # [N, M]
    end = torch.tensor([len(row) - 1 for row in rows], dtype=torch.long)
    where = tower.device
    return PromptTokens(
        tuple(names), context_length, position, tower.width, ids.to(where), slots.to(where), end.to(where)
    )


def check_fit(tower: TextTower, names: Sequence[str], context_length: int, position: str = "end") -> None:
    """Raise what :func:`pack_names` would raise, without packing."""
    _split_prompts(tower, names, context_length, position)


def _split_prompts(
    tower: TextTower, names: Sequence[str], context_length: int, position: str
) -> list[tuple[int, list[int], list[int]]]:
    """[SOS], the token ids of the name (none for ``"end"``, where it follows the context), and those after both."""
    if context_length < 0:
        raise ValueError(f"`context_length` of pack_names must be at least 0. Got {context_length}.")
    if position not in POSITIONS:
        raise ValueError(f"`position` of pack_names must be one of {', '.join(POSITIONS)}. Got {position!r}.")
    start, end = tower.tokenizer.sot_token_id, tower.tokenizer.eot_token_id
    if position == "end":
        prompts = [(start, list[int](), [*tower.token_ids(f"{clean_name(name)}."), end]) for name in names]
    else:
        after = [*tower.token_ids("."), end]
        prompts = [(start, tower.token_ids(clean_name(name)), after) for name in names]
    _check_lengths(tower, names, [len(name) + len(after) for _, name, after in prompts], context_length)
    return prompts


def _check_lengths(tower: TextTower, names: Sequence[str], lengths: Sequence[int], context_length: int) -> None:
    room = tower.context_length - 1 - context_length
    long = [f"{name!r} ({length})" for name, length in zip(names, lengths, strict=True) if length > room]
    if long:
        raise ValueError(
            f"A class name must have at most {room} tokens, full stop and end included, after 1 start and "
            f"{context_length} context tokens: {tower.model!r} reads {tower.context_length}. Got {', '.join(long)}. "
            f"Shorten the name or the context."
        )
