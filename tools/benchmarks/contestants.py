"""Seven ways to the rows of N class prompts with one learned context, on one random text tower (W text width)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.nn.functional import linear, normalize, scaled_dot_product_attention, silu

from subpt_dense.datasets import get_split
from subpt_dense.datasets.name_lists import coco_stuff, lvis_v1
from subpt_dense.text import TextTower, clean_name, encode_context, pack_names, prefix_of
from subpt_dense.text.reference import encode_truncated
from subpt_dense.text.shared_prefix import encode_shared_prefix

MODEL = "ViT-B-32-quickgelu"
CONTEXT_LENGTH = 16
#: Tokens that `chunked` computes at a time.
CHUNK = 1024
#: Sizes of the vocabularies: COCO-OVD, COCO-Stuff, LVIS v1.
VOCABULARIES = (65, 171, 1203)
#: Ways whose cost is proportional to N: they are timed on a part of the vocabulary.
LINEAR = ("reference", "sdpa", "fused", "checkpointed", "truncated")
WAYS = (*LINEAR, "shared_prefix", "chunked")

Encode = Callable[[Tensor], Tensor]

_SLOPE = 1.702  # QuickGELU(x) = x * sigmoid(1.702 x) = silu(1.702 x) / 1.702


def class_names(count: int) -> tuple[str, ...]:
    """The names of the vocabulary of that size.

    Raises:
        ValueError: If no vocabulary has it.
    """
    if count == 65:
        return get_split("coco_ovd").all
    if count == 171:
        return coco_stuff()
    if count == 1203:
        return tuple(name for name, _ in lvis_v1())
    raise ValueError(f"`count` of class_names must be one of {', '.join(map(str, VOCABULARIES))}. Got {count}.")


def part_of(tower: TextTower, names: Sequence[str], count: int) -> tuple[str, ...]:
    """``count`` of the names: half of them the longest in tokens, the others evenly from the rest; in their order.

    The longest is always there, so that cutting at the end of the text cuts where it does for the whole vocabulary.
    """
    if count >= len(names):
        return tuple(names)
    lengths = [len(tower.token_ids(f"{clean_name(name)}.")) for name in names]
    by_length = sorted(range(len(names)), key=lambda index: -lengths[index])
    first = (count + 1) // 2
    rest = sorted(by_length[first:])
    even = [rest[(2 * place + 1) * len(rest) // (2 * (count - first))] for place in range(count - first)]
    return tuple(names[index] for index in sorted(by_length[:first] + even))


def build_tower(width: int = 512, layers: int = 12, seed: int = 0) -> TextTower:
    """The text tower of ViT-B/32 with random weights, none of them 0 or 1; the image tower beside it is a stub.

    Args:
        width: W, a multiple of 64, of which every head has 64.
        layers: Number of blocks.
        seed: Of the weights.
    """
    config = open_clip.get_model_config(MODEL)
    config["vision_cfg"] = {"image_size": 32, "patch_size": 32, "width": 64, "layers": 1}
    config["text_cfg"] |= {"width": width, "layers": layers, "heads": width // 64}
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(seed)
        clip = open_clip.CLIP(**config)
        for parameter in clip.parameters():
            if parameter.ndim == 1:  # norms and biases
                parameter.add_(0.1 * torch.randn_like(parameter))
    return TextTower.from_open_clip(clip, model=MODEL, pretrained="random")


def random_context(tower: TextTower, seed: int = 1) -> Tensor:
    """A context as CoOp starts with, N(0, 0.02^2), ``[16, W]`` in the tower's precision, to be learned."""
    generator = torch.Generator().manual_seed(seed)
    context = 0.02 * torch.randn(CONTEXT_LENGTH, tower.width, generator=generator)
    return context.to(tower.wide_dtype).requires_grad_()


class Step:
    """The text side of one training step: rows, and the gradient of a fixed linear functional of them.

    Args:
        encode: Context to rows ``[N, D]``.
        context: ``[16, W]``, learned.
        shape: N and D.
    """

    def __init__(self, encode: Encode, context: Tensor, shape: tuple[int, int]) -> None:
        self.encode = encode
        self.context = context
        self.direction = torch.arange(shape[0] * shape[1], dtype=context.dtype).sin().view(shape)

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Rows ``[N, D]`` and gradient ``[16, W]``."""
        rows = self.encode(self.context)
        (gradient,) = torch.autograd.grad(rows, self.context, self.direction)
        return rows.detach(), gradient


def full_length_steps(tower: TextTower, context: Tensor, names: Sequence[str]) -> dict[str, Step]:
    """Steps of 77 tokens a class, whatever its name: ``reference``, ``sdpa``, ``fused``, ``checkpointed``.

    Args:
        tower: From :func:`build_tower`.
        context: From :func:`random_context`.
        names: N classes.
    """
    tokens = pack_names(tower, names, CONTEXT_LENGTH)

    def reference(context: Tensor) -> Tensor:
        return encode_context(tower, context, tokens, encoder="reference")

    def checkpointed(context: Tensor) -> Tensor:
        with _recomputing(tower):
            return reference(context)

    encoders: dict[str, Encode] = {
        "reference": reference,
        "sdpa": SDPAEncoder(tower, names),
        "fused": FusedEncoder(tower, names),
        "checkpointed": checkpointed,
    }
    return {way: Step(encode, context, (len(names), tower.embed_dim)) for way, encode in encoders.items()}


def short_steps(
    tower: TextTower, context: Tensor, names: Sequence[str], part: Sequence[str], chunk: int = CHUNK
) -> dict[str, Step]:
    """Steps whose cost depends on the names: ``truncated`` on a part of them, ``shared_prefix`` and ``chunked``.

    They are what `encode_context` does after its check at first use; ``figures.compare`` compares their numbers.

    Args:
        tower: From :func:`build_tower`.
        context: From :func:`random_context`.
        names: The vocabulary.
        part: From :func:`part_of`.
        chunk: Tokens that ``chunked`` computes at a time.
    """
    few, tokens = (pack_names(tower, some, CONTEXT_LENGTH) for some in (part, names))

    def truncated(context: Tensor) -> Tensor:
        return encode_truncated(tower, context, few)

    def whole(context: Tensor, max_tokens: int | None = None) -> Tensor:
        return encode_shared_prefix(tower, context, tokens, max_tokens)

    return {
        "truncated": Step(truncated, context, (len(part), tower.embed_dim)),
        "shared_prefix": Step(whole, context, (len(names), tower.embed_dim)),
        "chunked": Step(lambda context: whole(context, chunk), context, (len(names), tower.embed_dim)),
    }


def chunks(tower: TextTower, context: Tensor, names: Sequence[str], chunk: int = CHUNK) -> list[Encode]:
    """Encoders of `chunked`'s first chunk (none is larger) and last one, from a prefix that is there already.

    None at all where one chunk would hold all: they are not chunked then.
    """
    tiles = pack_names(tower, names, CONTEXT_LENGTH).tiles
    if len(tiles.ids) <= chunk:
        return []
    parts, prefix = tiles.split(chunk), prefix_of(tower, context)
    sizes = sum(parts[0].counts), len(tiles.ends) - sum(parts[-1].counts)
    chosen = [
        [name for name, rank in zip(names, tiles.rank.tolist(), strict=True) if inside(rank)]
        for inside in (lambda rank: rank < sizes[0], lambda rank: rank >= sizes[1])
    ]
    packs = [pack_names(tower, some, CONTEXT_LENGTH) for some in chosen]
    return [partial(encode_shared_prefix, tower, tokens=tokens, prefix=prefix) for tokens in packs]


@contextmanager
def _recomputing(tower: TextTower) -> Iterator[None]:
    """open_clip's activation checkpointing, block by block; the forward pass decides."""
    transformer: Any = tower.transformer
    transformer.grad_checkpointing = True
    try:
        yield
    finally:
        transformer.grad_checkpointing = False


class SDPAEncoder:
    """77 tokens a class with fused causal attention; the rest of a block is open_clip's own.

    Prompts are made as in CoOp, with placeholders whose place the context takes.

    Args:
        tower: A tower with CLIP's own blocks.
        names: N classes.
    """

    def __init__(self, tower: TextTower, names: Sequence[str]) -> None:
        placeholders = "x " * CONTEXT_LENGTH
        ids = tower.tokenize([f"{placeholders}{clean_name(name)}." for name in names])
        embedded = tower.token_embedding(ids)  # [N, 77, W]
        self.before, self.after = embedded[:, :1], embedded[:, 1 + CONTEXT_LENGTH :]
        self.rows = torch.arange(len(names)), ids.argmax(dim=1)  # the end-of-text id is the largest
        self.tower = tower
        self.blocks: list[Any] = list(tower.transformer.resblocks)  # type: ignore[arg-type]

    def mlp(self, block: Any, hidden: Tensor) -> Tensor:
        """Of one block."""
        return block.mlp(hidden)

    def __call__(self, context: Tensor) -> Tensor:
        """Unit rows ``[N, D]``."""
        prompts = torch.cat([self.before, context.expand(len(self.before), -1, -1), self.after], dim=1)
        hidden = prompts + self.tower.positional_embedding
        count, length, width = hidden.shape
        for block in self.blocks:
            attn = block.attn
            qkv = linear(block.ln_1(hidden), attn.in_proj_weight, attn.in_proj_bias)
            heads = qkv.view(count, length, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
            mixed = scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
            hidden = hidden + attn.out_proj(mixed.transpose(1, 2).reshape(count, length, width))
            hidden = hidden + self.mlp(block, block.ln_2(hidden))
        return normalize(self.tower.ln_final(hidden[self.rows]) @ self.tower.text_projection, dim=-1)


class FusedEncoder(SDPAEncoder):
    """The same with QuickGELU as a fused silu, its slope folded into copies of the linear layers on both sides."""

    def __init__(self, tower: TextTower, names: Sequence[str]) -> None:
        super().__init__(tower, names)
        self.folded = {
            block: (c_fc.weight * _SLOPE, c_fc.bias * _SLOPE, c_proj.weight / _SLOPE, c_proj.bias)
            for block in self.blocks
            for c_fc, _, c_proj in [block.mlp]
        }

    def mlp(self, block: Any, hidden: Tensor) -> Tensor:
        """Of one block."""
        to_inner, inner_bias, to_outer, outer_bias = self.folded[block]
        return linear(silu(linear(hidden, to_inner, inner_bias)), to_outer, outer_bias)
