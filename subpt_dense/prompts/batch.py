"""One text batch for a vocabulary and its anchors (K classes, J names of an anchor, D embedding)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from subpt_dense.losses import TextAnchor
from subpt_dense.prompts.tower import frozen_maths
from subpt_dense.text import PromptTokens, TextTower, clean_name, pack_names


class TrainingBatch(NamedTuple):
    """What a training step encodes: the vocabulary, then every name that only anchors have, each once.

    Attributes:
        tokens: Of all N names; the first K are the vocabulary.
        positions: By anchor, where its names are in the batch, ``[J]`` int64.
        targets: By anchor, what its names are held to, unit, ``[J, D]``.
    """

    tokens: PromptTokens
    positions: dict[str, Tensor]
    targets: dict[str, Tensor]


def pack_batch(
    tower: TextTower,
    names: tuple[str, ...],
    anchors: Sequence[TextAnchor],
    context_length: int,
    position: str = "end",
) -> TrainingBatch:
    """Pack ``names`` and the anchors' names around ``context_length`` learned tokens, and encode the anchors' targets.

    Names that differ only in case, underscores and whitespace are one name.
    """
    place: dict[str, int] = {}
    spelling: list[str] = []
    for name in [*names, *(name for anchor in anchors for name in anchor.names_for(names))]:
        if _same(name) not in place:
            place[_same(name)] = len(spelling)
            spelling.append(name)
    positions, targets = {}, {}
    with frozen_maths():
        for anchor in anchors:
            where = [place[_same(name)] for name in anchor.names_for(names)]
            positions[anchor.name] = torch.tensor(where, device=tower.device)
            targets[anchor.name] = anchor.targets(tower, names)
        return TrainingBatch(pack_names(tower, spelling, context_length, position), positions, targets)


def _same(name: str) -> str:
    return clean_name(name).casefold()
