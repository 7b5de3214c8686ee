"""Finding CLIP's weights and refusing the wrong ones, before and after open_clip has looked at them."""

import difflib
import functools
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import open_clip
import torch
from open_clip.model import convert_to_custom_text_state_dict
from safetensors import SafetensorError, safe_open
from torch import nn

from subpt_dense.text.spec import TextSpec
from subpt_dense.text.tower import POOL_TYPES

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_SHOWN = 4

Shapes = dict[str, tuple[int, ...]]


def check_model(model: str) -> None:
    """Refuse what cannot serve as a prompt's text tower, from the model's config alone: nothing is built or downloaded.

    Raises:
        ValueError: If open_clip does not know the model, or its text tower is not CLIP's own, read at one token.
    """
    known = open_clip.list_models()
    if model not in known:
        close = difflib.get_close_matches(model, known, n=5, cutoff=0.5)
        hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
        raise ValueError(
            f"`model` of TextSpec must be one of the {len(known)} of open_clip.list_models(), to which "
            f"open_clip.add_model_config adds a local one. Got {model!r}.{hint}"
        )
    config = open_clip.get_model_config(model)
    text = config["text_cfg"]
    pool_type = text.get("pool_type", "argmax")
    reasons = {
        "its text tower comes from transformers": text.get("hf_model_name"),
        "it does not use CLIP's own tokenizer": text.get("hf_tokenizer_name") or "siglip" in model.lower(),
        f"it is read by {pool_type!r}, which is none of {', '.join(POOL_TYPES)}": pool_type not in POOL_TYPES,
        "it appends a class token": text.get("embed_cls"),
        "it has a captioning decoder": config.get("multimodal_cfg"),
    }
    found = [reason for reason, applies in reasons.items() if applies]
    if found:
        raise ValueError(
            f"`model` of TextSpec must have CLIP's own text tower and tokenizer. Got {model!r}: {'; '.join(found)}."
        )


def resolve_weights(spec: TextSpec) -> Path:
    """The local file that holds the weights ``spec`` names; a tag's file is downloaded (and kept) by open_clip.

    Raises:
        FileNotFoundError: If ``pretrained`` is neither a tag of the model nor a file.
        RuntimeError: If a tag's weights cannot be downloaded.
        ValueError: If the tag was trained with the other activation, or the file is of an unknown kind.
    """
    tags = open_clip.list_pretrained_tags_by_model(spec.model)
    if open_clip.is_pretrained_cfg(spec.model, spec.pretrained):
        return _download(spec.model, spec.pretrained)
    path = Path(spec.pretrained).expanduser()
    if not path.is_file():
        known = ", ".join(map(repr, tags)) if tags else "none"
        raise FileNotFoundError(
            f"`pretrained` of TextSpec must be a tag of {spec.model!r} ({known}) or the path of a weights file. "
            f"Got {spec.pretrained!r}, which is neither."
        )
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"`pretrained` of TextSpec must be a file in {', '.join(_SUFFIXES)}. Got {spec.pretrained!r}.")
    return path


@functools.cache  # even a cached file costs open_clip a request
def _download(model: str, tag: str) -> Path:
    config = open_clip.get_pretrained_cfg(model, tag)
    wants_quick = bool(config.get("quick_gelu", False))
    if wants_quick != bool(open_clip.get_model_config(model).get("quick_gelu", False)):
        base = model.removesuffix("-quickgelu")
        raise ValueError(
            f"`model` of TextSpec must be {base + '-quickgelu' * wants_quick!r} for the weights {tag!r}: they were "
            f"trained {'with' if wants_quick else 'without'} QuickGELU. Got {model!r}."
        )
    try:
        path = open_clip.download_pretrained(config)
    except Exception as error:
        raise RuntimeError(
            f"The weights {tag!r} of {model!r} could not be downloaded. Got {type(error).__name__}: {error}. "
            f"`pretrained=<path>` of TextSpec accepts a local weights file instead."
        ) from error
    return Path(path)


def read_shapes(path: Path) -> Shapes:
    """Names and shapes of the tensors in a weights file, read without copying the data.

    Raises:
        ValueError: If the file is truncated, corrupt, or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="pt") as file:
                return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        guess = "it is truncated, corrupt or holds Python objects"
        if "TorchScript" in reason:
            guess = "it is a TorchScript archive, as OpenAI's own files are; the tag 'openai' names the same weights"
        raise ValueError(
            f"`pretrained` of TextSpec must be a whole file of tensors. {str(path)!r} cannot be read: {guess} "
            f"({type(error).__name__}: {reason})."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else None
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"`pretrained` of TextSpec must be a file of named tensors. {str(path)!r} holds other things.")
    prefix = "module." if next(iter(state)).startswith("module.") else ""
    return {name.removeprefix(prefix): tuple(value.shape) for name, value in state.items()}


def explain_mismatch(spec: TextSpec, path: Path, found: Shapes, expected: nn.Module) -> str | None:
    """What separates a weights file from the model it was given for; ``None`` where names and shapes agree.

    Args:
        spec: The model asked for.
        path: The weights file.
        found: Its shapes, from :func:`read_shapes`.
        expected: The model, with any weights.
    """
    wanted = {name: tuple(value.shape) for name, value in expected.state_dict().items()}
    if "text.token_embedding.weight" in wanted and "token_embedding.weight" in found:
        found = convert_to_custom_text_state_dict(found)
    scalars = {"logit_scale", "logit_bias"}  # open_clip accepts these as scalars and as one number
    parts = {
        "missing from the file": [name for name in wanted if name not in found and name != "logit_bias"],
        "unknown to the model": [name for name in found if name not in wanted],
        "of another shape": [
            f"{name} {list(found[name])}, the model has {list(shape)}"
            for name, shape in wanted.items()
            if name in found and found[name] != shape and name not in scalars
        ],
    }
    told = [
        f"{len(names)} {kind}: {'; '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"
        for kind, names in parts.items()
        if names
    ]
    if not told:
        return None
    ask = f"`pretrained` of TextSpec must hold the weights of {spec.model!r}. {str(path)!r} does not fit"
    return ". ".join([ask, *told]) + "."
