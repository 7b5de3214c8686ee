"""What learned context tokens resemble (M context tokens, V words, W text width)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def nearest_words(context: Tensor, embeddings: Tensor, words: Sequence[str], count: int = 1) -> list[list[dict]]:
    """The words whose embeddings are nearest to each context token, by Euclidean distance.

    Args:
        context: ``[M, W]``.
        embeddings: ``[V, W]``, the tower's token embeddings, all or some.
        words: V words, in that order.
        count: How many of them a token, in [1, V].

    Returns:
        M lists of ``count`` dicts ``word``, ``distance``, nearest first.

    Raises:
        ValueError: If a shape or ``count`` is off.

    Source: CoOp (arXiv 2109.01134), appendix on the interpretation of learned prompts.
    """
    if context.ndim != 2 or embeddings.ndim != 2 or context.shape[1] != embeddings.shape[1]:
        raise ValueError(
            "`context` and `embeddings` must have shapes [M, W] and [V, W]. "
            f"Got {list(context.shape)} and {list(embeddings.shape)}."
        )
    if len(words) != len(embeddings) or not 1 <= count <= len(words):
        raise ValueError(
            f"`words` must name the {len(embeddings)} embeddings, and `count` be in [1, {len(embeddings)}]. "
            f"Got {len(words)} words and {count}."
        )
    distances = torch.cdist(context.detach().double(), embeddings.detach().double())  # [M, V]
    found = distances.topk(count, dim=1, largest=False)
    pairs = zip(found.values.tolist(), found.indices.tolist(), strict=True)
    return [[{"word": words[i], "distance": d} for d, i in zip(*row, strict=True)] for row in pairs]
