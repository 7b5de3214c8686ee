"""One CLIP for all of SAN's image side: open_clip's vision transformer under mmseg's names (C width, L layers)."""

from collections.abc import Mapping
from typing import Any

import open_clip
import torch
from mmcv.cnn.bricks.transformer import FFN
from torch import Tensor, nn

from subpt_dense.text import TextSpec, load_tower
from subpt_dense.text.weights import resolve_weights

Weights = dict[str, Tensor]

#: open_clip's parts of a block -> mmseg's, in its VisionTransformer and in the layers that recognise masks.
_ENCODER = {
    "ln_1": "ln1",
    "attn": "attn.attn",
    "ln_2": "ln2",
    "mlp.c_fc": "ffn.layers.0.0",
    "mlp.c_proj": "ffn.layers.1",
}
_RECOGNISER = {
    "ln_1": "norms.0",
    "attn": "attentions.0.attn",
    "ln_2": "norms.1",
    "mlp.c_fc": "ffns.0.layers.0.0",
    "mlp.c_proj": "ffns.0.layers.1",
}
_STEM = {
    "class_embedding": "cls_token",
    "positional_embedding": "pos_embed",
    "conv1.weight": "patch_embed.projection.weight",
    "ln_pre.weight": "ln_pre.weight",
    "ln_pre.bias": "ln_pre.bias",
}
_END = {"ln_post.weight": "ln_post.weight", "ln_post.bias": "ln_post.bias", "proj": "proj.weight"}
_BLOCKS = "transformer.resblocks."


def split_visual(visual: Mapping[str, Tensor], layers: int) -> tuple[Weights, Weights]:
    """Divide a CLIP image tower between SAN's two users of it (SAN, arXiv 2302.12242, section 3.1).

    Args:
        visual: State dict of open_clip's ``visual``, a VisionTransformer.
        layers: Blocks that go to the image encoder, 1..L-1: 9 of 12 for B/16, 18 of 24 for L/14. The others recognise
            masks.

    Returns:
        State dicts of mmseg's ``image_encoder`` and of ``decode_head.rec_with_attnbias``.

    Raises:
        ValueError: If ``layers`` is out of range, or the tower holds what SAN has no place for.
    """
    depth = 1 + max((int(key.split(".")[2]) for key in visual if key.startswith(_BLOCKS)), default=-1)
    if not 1 <= layers < depth:
        raise ValueError(
            f"`num_layers` of SAN's image encoder must be in [1, {depth - 1}] for a CLIP of {depth} layers, the "
            f"others of which recognise masks. Got {layers}."
        )
    encoder: Weights = {}
    recogniser: Weights = {}
    unknown = []
    for key, value in visual.items():
        if key in _STEM:
            encoder[_STEM[key]] = {"class_embedding": value[None, None], "positional_embedding": value[None]}.get(
                key, value
            )
        elif key in _END:
            recogniser[_END[key]] = value.T if key == "proj" else value
        elif key.startswith(_BLOCKS):
            index, part = key.removeprefix(_BLOCKS).split(".", 1)
            first = int(index) < layers
            name = _block_name(part, _ENCODER if first else _RECOGNISER)
            if name is None:
                unknown.append(key)
            elif first:
                encoder[f"layers.{index}.{name}"] = value
            else:
                recogniser[f"layers.{int(index) - layers}.{name}"] = value
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(
            "The CLIP of SAN must have open_clip's plain vision transformer as its image tower. Got one with "
            f"{', '.join(unknown[:4])}{' ...' * (len(unknown) > 4)}."
        )
    return encoder, recogniser


def _block_name(part: str, names: Mapping[str, str]) -> str | None:
    for theirs, ours in names.items():
        if part.startswith(theirs + "."):
            return ours + part[len(theirs) :]
    return None


def load_san_weights(image_encoder: nn.Module, recogniser: nn.Module, spec: TextSpec) -> None:
    """Fill SAN's frozen image side from an open_clip model, every weight or none.

    Args:
        image_encoder: ``mmseg.VisionTransformer``.
        recogniser: mmseg's ``RecWithAttnbias``, the layers after it.
        spec: The CLIP.

    Raises:
        FileNotFoundError, RuntimeError: If the weights cannot be had.
        ValueError: If the CLIP's tower does not fit, in layers, widths, heads, sizes or activation; says what differs.
    """
    load_tower(spec)  # refuses unknown models and wrong weights, and is what the prompt head will ask for
    parts: dict[str, Any] = {"image encoder": image_encoder, "mask layers": recogniser}
    for name, part in parts.items():
        _check_activation(name, part, spec)
    with torch.random.fork_rng(devices=()):  # building a model draws numbers; the caller's seed must not feel it
        clip = open_clip.create_model(
            spec.model, pretrained=str(resolve_weights(spec)), precision="fp32", require_pretrained=True
        )
    found = split_visual(clip.visual.state_dict(), len(parts["image encoder"].layers))
    heads = clip.visual.transformer.resblocks[0].attn.num_heads
    problems = [text for part, state in zip(parts.values(), found, strict=True) for text in _differences(part, state)]
    problems += [text for name, part in parts.items() for text in _other_heads(name, part, heads)]
    if problems:
        raise ValueError(
            f"`pretrained` of SAN must fit its image encoder and mask layers. {spec.model!r} does not: "
            f"{'; '.join(problems[:4])}{' ...' * (len(problems) > 4)}."
        )
    for part, state in zip(parts.values(), found, strict=True):
        part.load_state_dict(state)


def _check_activation(name: str, part: nn.Module, spec: TextSpec) -> None:
    quick = bool((open_clip.get_model_config(spec.model) or {}).get("quick_gelu", False))
    wanted = "QuickGELU" if quick else "GELU"
    built = {type(module.layers[0][1]).__name__ for module in part.modules() if isinstance(module, FFN)}
    if built != {wanted}:
        raise ValueError(
            f"`act_cfg` of SAN's {name} must be {'mmseg.' * quick + wanted!r} for {spec.model!r}. Got "
            f"{', '.join(sorted(built))}."
        )


def _other_heads(name: str, part: nn.Module, heads: int) -> list[str]:
    """Shapes do not show the number of heads: the same weights divided otherwise are another attention."""
    built = {module.num_heads for module in part.modules() if isinstance(module, nn.MultiheadAttention)}
    return [f"it has {heads} heads, not {other} as the {name} (`num_heads`)" for other in sorted(built - {heads})]


def _differences(module: nn.Module, state: Weights) -> list[str]:
    wanted = module.state_dict()
    told = [f"it lacks {key}" for key in wanted if key not in state]
    told += [f"{key} has no place" for key in state if key not in wanted]
    told += [
        f"{key} is {list(value.shape)}, not {list(wanted[key].shape)}"
        for key, value in state.items()
        if key in wanted and wanted[key].shape != value.shape
    ]
    return told
