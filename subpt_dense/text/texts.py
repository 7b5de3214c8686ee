"""Whole texts and hand-crafted templates to unit rows, without gradient (N texts, K names, L tokens, D embedding).

Rows are float32 whatever the tower's precision, and autocast is switched off inside: the precision is the one that
`TextSpec` names.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from subpt_dense.text.names import clean_name
from subpt_dense.text.reference import read_prompts
from subpt_dense.text.templates import get_templates
from subpt_dense.text.tower import TextTower


@torch.inference_mode(False)
@torch.no_grad()
def encode_texts(tower: TextTower, texts: Sequence[str], batch: int = 256) -> Tensor:
    """Rows of whole texts, without gradient.

    Args:
        tower: The frozen tower.
        texts: N texts.
        batch: Texts at a time.

    Returns:
        Unit rows ``[N, D]`` float32 on the tower's device (float64 for a float64 tower).

    Raises:
        ValueError: If a text does not fit into what the tower reads, or ``batch`` is not positive.
    """
    if batch < 1:
        raise ValueError(f"`batch` of encode_texts must be at least 1. Got {batch}.")
    tokens = tower.tokenize(texts)  # [N, L]
    rows = [torch.zeros(0, tower.embed_dim, device=tower.device, dtype=tower.wide_dtype)]
    for ids in tokens.split(batch) if len(texts) else ():
        end = ids.argmax(dim=1)  # the end-of-text id is the largest
        if tower.cut_at_end:
            ids = ids[:, : int(end.max()) + 1]
        with torch.autocast(tower.device.type, enabled=False):
            rows.append(read_prompts(tower, tower.token_embedding(ids.to(tower.device)), end.to(tower.device)))
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
        Unit rows ``[K, D]`` on the tower's device, in the dtype of :func:`encode_texts`.

    Raises:
        ValueError: If a template is malformed or a text does not fit into what the tower reads.
    """
    checked = get_templates(templates)
    texts = [template.replace("{}", clean_name(name)) for name in names for template in checked]
    rows = encode_texts(tower, texts, batch=batch).view(len(names), len(checked), tower.embed_dim)
    return normalize(rows.mean(dim=1), dim=-1)
