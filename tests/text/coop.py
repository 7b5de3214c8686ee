"""CoOp's way to rows, written with open_clip alone: what every encoder here must equal, and the comparison."""

import random
from collections.abc import Callable, Sequence
from functools import cache

import open_clip
import torch
from open_clip import CLIP
from torch import Tensor
from torch.nn.functional import normalize

from subpt_dense.text import TextSpec, TextTower, encode_context, get_tower, load_tower, pack_names

NAMES = ["cat", "hot_dog", "car (automobile)", "wine glass", "a rather long name for one class"]
WAYS: dict[str, dict] = {
    "truncated": {"encoder": "truncated"},
    "shared": {"encoder": "shared_prefix"},
    "chunked": {"encoder": "shared_prefix", "max_tokens": 40},
    "one tile at a time": {"encoder": "shared_prefix", "max_tokens": 1},
    "auto": {},
}


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


@cache
def random_words(count: int, seed: int) -> list[str]:
    """Distinct names of one to six pieces, with digits, brackets, punctuation and other scripts among them."""
    draw = random.Random(seed)
    pieces = ["cat", "Hot", "dog's", "3.5", "(big)", "wine-glass", "x", "crêpe", "猫", "naïve", "co-op", "A&B", "zyx"]
    names = {" ".join(draw.choices(pieces, k=draw.randint(1, 6))) for _ in range(3 * count)}
    return sorted(names)[:count]


def double(spec: TextSpec) -> tuple[CLIP, TextTower]:
    """The model and its text tower in float64."""
    clip = open_clip.create_model(spec.model, pretrained=spec.pretrained).eval().double().requires_grad_(False)
    return clip, get_tower(load_tower(spec), "cpu").copy_to(torch.device("cpu"), torch.float64)


def rows_and_gradient(compute: Callable[[Tensor], Tensor], start: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    context = start.clone().requires_grad_()
    rows = compute(context)
    (rows * weight).sum().backward()
    assert context.grad is not None
    return rows.detach(), context.grad


def compare(clip: CLIP, tower: TextTower, names: Sequence[str], length: int, way: dict, limit: float) -> None:
    """Features within ``limit``, the gradient within ``limit`` of its norm."""
    torch.manual_seed(length)
    start = torch.randn(length, tower.width, dtype=tower.wide_dtype) * 0.1
    weight = torch.randn(len(names), tower.embed_dim, dtype=tower.wide_dtype)
    tokens = pack_names(tower, names, length)
    rows, gradient = rows_and_gradient(lambda c: encode_context(tower, c, tokens, **way), start, weight)
    wanted, slope = rows_and_gradient(lambda c: full_length_rows(clip, c, names), start, weight)
    assert rows.dtype == tower.wide_dtype and rows.shape == wanted.shape
    assert (rows - wanted).abs().max() <= limit
    assert (gradient - slope).norm() <= limit * slope.norm()
    assert length == 0 or slope.norm() > 1e-3
