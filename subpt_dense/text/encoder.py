"""Texts, templates and learned contexts to unit rows (N texts, M context tokens, L tokens, W text width, D embedding).

CLIP's text tower is causal and only its end-of-text row is read, so every batch is cut at its longest end-of-text: what
follows cannot reach that row. Rows are float32 whatever the tower's precision, and autocast is switched off inside: the
precision is the one that `TextSpec` names.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from subpt_dense.text.names import clean_name
from subpt_dense.text.templates import get_templates
from subpt_dense.text.tokens import PromptTokens
from subpt_dense.text.tower import TextTower


def encode_context(tower: TextTower, context: Tensor, tokens: PromptTokens) -> Tensor:
    """Rows of `[SOS] v1..vM name. [EOT]`, one shared context before every name (CoOp, arXiv 2109.01134, eq. 2).

    Args:
        tower: The frozen tower, on the context's device.
        context: ``[M, W]``, any floating dtype; the gradient reaches it and nothing else.
        tokens: From :func:`pack_names`, with the same M.

    Returns:
        Unit rows ``[N, D]`` float32.

    Raises:
        ValueError: If the context's shape or device is not the tower's and the tokens'.
    """
    expected = (tokens.context_length, tower.width)
    if tuple(context.shape) != expected:
        raise ValueError(f"`context` of encode_context must be [M, W] = {list(expected)}. Got {list(context.shape)}.")
    if context.device != tower.device:
        raise ValueError(f"`context` of encode_context must be on the tower's {tower.device}. Got {context.device}.")
    count = len(tokens)
    with torch.autocast(tower.device.type, enabled=False):
        start = tower.token_embedding.weight[tower.tokenizer.sot_token_id]
        prefix = torch.cat([start[None], context.float()])  # [1 + M, W]
        suffix = tower.token_embedding(tokens.suffix.to(tower.device))  # [N, S, W]
        prompts = torch.cat([prefix.expand(count, -1, -1), suffix], dim=1)  # [N, 1 + M + S, W]
        return _read_at_end(tower, prompts, tokens.end.to(tower.device))


@torch.inference_mode(False)
@torch.no_grad()
def encode_texts(tower: TextTower, texts: Sequence[str], batch: int = 256) -> Tensor:
    """Rows of whole texts, without gradient.

    Args:
        tower: The frozen tower.
        texts: N texts.
        batch: Texts at a time.

    Returns:
        Unit rows ``[N, D]`` float32 on the tower's device.

    Raises:
        ValueError: If a text does not fit into what the tower reads, or ``batch`` is not positive.
    """
    if batch < 1:
        raise ValueError(f"`batch` of encode_texts must be at least 1. Got {batch}.")
    tokens = tower.tokenize(texts)  # [N, L]
    rows = [torch.zeros(0, tower.embed_dim, device=tower.device)]
    for ids in tokens.split(batch) if len(texts) else ():
        end = ids.argmax(dim=1)  # the end-of-text id is the largest
        ids = ids[:, : int(end.max()) + 1]
        with torch.autocast(tower.device.type, enabled=False):
            rows.append(_read_at_end(tower, tower.token_embedding(ids.to(tower.device)), end.to(tower.device)))
    return torch.cat(rows)


@torch.inference_mode(False)
@torch.no_grad()
def encode_templates(
    tower: TextTower, names: Sequence[str], templates: str | Sequence[str], batch: int = 256
) -> Tensor:
    """Rows of hand-crafted prompts: a unit row per template, averaged, made unit again (CLIP, arXiv 2103.00020, 3.1.4).

    Args:
        tower: The frozen tower.
        names: K class names; underscores become spaces.
        templates: What :func:`get_templates` takes.
        batch: Texts at a time.

    Returns:
        Unit rows ``[K, D]`` float32 on the tower's device.

    Raises:
        ValueError: If a template is malformed or a text does not fit into what the tower reads.
    """
    checked = get_templates(templates)
    texts = [template.replace("{}", clean_name(name)) for name in names for template in checked]
    rows = encode_texts(tower, texts, batch=batch).view(len(names), len(checked), tower.embed_dim)
    return normalize(rows.mean(dim=1), dim=-1)


def _read_at_end(tower: TextTower, prompts: Tensor, end: Tensor) -> Tensor:
    """The tower on embedded prompts ``[N, L', W]``, read at ``end`` ``[N]``: unit rows ``[N, D]`` float32."""
    count, length, _ = prompts.shape
    if count == 0:
        return torch.zeros(0, tower.embed_dim, device=tower.device)
    hidden = prompts.to(tower.dtype) + tower.positional_embedding[:length].to(tower.dtype)
    hidden = tower.transformer(hidden, attn_mask=tower.attn_mask[:length, :length])
    last = tower.ln_final(hidden[torch.arange(count, device=tower.device), end])  # [N, W]; a norm is row-wise
    projection = tower.text_projection
    if isinstance(projection, nn.Linear):
        last = projection(last)
    elif projection is not None:
        last = last @ projection
    return normalize(last.float(), dim=-1)
