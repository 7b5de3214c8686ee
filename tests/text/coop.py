"""CoOp's way to rows, written with open_clip alone: what every encoder here must equal."""

from collections.abc import Sequence

import open_clip
import torch
from open_clip import CLIP
from torch import Tensor
from torch.nn.functional import normalize


def full_length_rows(clip: CLIP, context: Tensor, names: Sequence[str]) -> Tensor:
    """Tokenise with placeholders, overwrite their embeddings, and encode all positions: unit rows ``[N, D]``."""
    length = context.shape[-2]
    texts = [" ".join(["X"] * length + [name.replace("_", " ") + "."]) for name in names]
    tokens = open_clip.tokenize(texts, context_length=clip.context_length)
    embedded = clip.token_embedding(tokens)  # [N, 77, W]
    shared = context.expand(len(names), -1, -1)
    embedded = torch.cat([embedded[:, :1], shared, embedded[:, 1 + length :]], dim=1)
    hidden = clip.transformer(embedded + clip.positional_embedding, attn_mask=clip.attn_mask)
    hidden = clip.ln_final(hidden)[torch.arange(len(names)), tokens.argmax(dim=-1)]
    return normalize(hidden @ clip.text_projection, dim=-1)
