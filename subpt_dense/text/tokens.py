"""Token ids of `name.` for a vocabulary, computed once (N names, M context tokens, S suffix tokens)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from subpt_dense.text.names import clean_name
from subpt_dense.text.tower import TextTower


@dataclass(frozen=True, eq=False)
class PromptTokens:
    """What follows the learned context in `[SOS] v1..vM name. [EOT]`.

    Attributes:
        names: The N names, in the order of the rows. A name may occur twice (in a vocabulary and as an anchor).
        context_length: M, the tokens of the learned context.
        suffix: Ids of `name. [EOT]` and zeros, ``[N, S]`` int64, S the longest.
        end: Position of [EOT] in the whole prompt, ``[N]`` int64, in [M + 1, L).
    """

    names: tuple[str, ...]
    context_length: int
    suffix: Tensor
    end: Tensor

    def __len__(self) -> int:
        return len(self.names)


@torch.inference_mode(False)
def pack_names(tower: TextTower, names: Sequence[str], context_length: int) -> PromptTokens:
    """Tokenise names for a learned context in front of them.

    `name.` is tokenised as one string, as CoOp does: a closing bracket and the full stop after it are one token.

    Args:
        tower: Whose tokenizer and length count.
        names: N names; underscores become spaces.
        context_length: M >= 0.

    Returns:
        Tokens on the tower's device.

    Raises:
        ValueError: If M is negative, or a prompt does not fit into what the tower reads.
    """
    if context_length < 0:
        raise ValueError(f"`context_length` of pack_names must be at least 0. Got {context_length}.")
    end_id = tower.tokenizer.eot_token_id
    suffixes = [[*tower.token_ids(f"{clean_name(name)}."), end_id] for name in names]
    _check_lengths(tower, names, suffixes, context_length)
    suffix = torch.zeros(len(suffixes), max(map(len, suffixes), default=1), dtype=torch.long)
    for row, ids in enumerate(suffixes):
        suffix[row, : len(ids)] = torch.tensor(ids)
    end = torch.tensor([context_length + len(ids) for ids in suffixes], dtype=torch.long)
    return PromptTokens(tuple(names), context_length, suffix.to(tower.device), end.to(tower.device))


def _check_lengths(tower: TextTower, names: Sequence[str], suffixes: list[list[int]], context_length: int) -> None:
    room = tower.context_length - 1 - context_length
    long = [f"{name!r} ({len(ids)})" for name, ids in zip(names, suffixes, strict=True) if len(ids) > room]
    if long:
        raise ValueError(
            f"A class name must have at most {room} tokens, full stop and end included, after 1 start and "
            f"{context_length} context tokens: {tower.model!r} reads {tower.context_length}. Got {', '.join(long)}. "
            f"Shorten the name or the context."
        )
