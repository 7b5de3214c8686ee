"""The tiny CLIPs: an open_clip model config, compact weights shipped per training seed, and full checkpoints made
from them.

A shipped file holds float16 tensors and only the token rows that were trained (some 150 of 49,408).
:func:`write_checkpoint` expands it once into a normal checkpoint, which open_clip loads with ``pretrained=<path>`` like
any other.
"""

import hashlib
import json
import os
from pathlib import Path

import open_clip
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from subpt_dense.toyworld import trunk as _trunk  # noqa: F401  (registers the image trunk with timm)

#: Name under which open_clip knows the architecture once this module is imported.
MODEL_NAME = "subpt-toy"
#: Training seeds whose weights are shipped.
CLIP_SEEDS = (0, 1, 2)
ASSETS = Path(__file__).parent / "assets"
_EMBEDDING = "token_embedding.weight"

open_clip.add_model_config(ASSETS / f"{MODEL_NAME}.json")


def asset_path(seed: int) -> Path:
    """The shipped compact weights of one training seed."""
    if seed not in CLIP_SEEDS:
        raise ValueError(f"`seed` of the tiny CLIP must be one of {CLIP_SEEDS}. Got {seed}.")
    return ASSETS / f"clip_seed{seed}.safetensors"


def save_compact(path: Path, state: dict[str, Tensor], tokens: Tensor, recipe: dict[str, object]) -> None:
    """Write compact weights.

    Args:
        path: Destination, written atomically.
        state: State dict of the model; its token embedding holds the trained rows only, ``[len(tokens), W]``.
        tokens: Ids of those rows in CLIP's vocabulary, int64.
        recipe: How the weights were made; stored with them.
    """
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    tensors["token_ids"] = tokens
    partial = path.with_suffix(".partial")
    save_file({k: v.contiguous() for k, v in tensors.items()}, partial, metadata={"recipe": json.dumps(recipe)})
    os.replace(partial, path)


def load_recipe(path: Path) -> dict[str, object]:
    """How a compact file was made: seed, steps, batch, learning rate, figures at the end."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["recipe"])


def expand(path: Path) -> dict[str, Tensor]:
    """A full float32 state dict from a compact file.

    Words that were never trained get small random rows from a fixed seed: they mean nothing to the toy world, as
    they should.
    """
    with safe_open(path, framework="pt") as file:
        state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118  (safe_open is not a mapping)
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    trained, ids = state[_EMBEDDING], state.pop("token_ids")
    size = json.loads((ASSETS / f"{MODEL_NAME}.json").read_text())["text_cfg"]["vocab_size"]
    rows = torch.randn(size, trained.shape[1], generator=torch.Generator().manual_seed(0)) * 0.02
    rows[ids] = trained
    return {**state, _EMBEDDING: rows}


def write_checkpoint(seed: int, folder: str | os.PathLike[str]) -> Path:
    """Write ``folder/clip_seed{seed}.pt`` unless it is there already, made of the shipped weights; returns its path.

    A line of ``folder/clip_seed{seed}.sha256`` says which weights it was made of: newer ones replace it.

    Raises:
        ValueError: If ``seed`` is not shipped, or the shipped file is not the one whose checksum is recorded.
    """
    source, target = asset_path(seed), Path(folder) / f"clip_seed{seed}.pt"
    digest, made_of = verify(source), target.with_suffix(".sha256")
    if target.exists() and made_of.exists() and made_of.read_text() == digest:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    torch.save(expand(source), partial)
    made_of.unlink(missing_ok=True)
    os.replace(partial, target)
    made_of.write_text(digest)
    return target


def record_checksums() -> None:
    """Write ``assets/SHA256SUMS`` anew; run after training shipped weights."""
    files = sorted(ASSETS.glob("*.safetensors"))
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (ASSETS / "SHA256SUMS").write_text("".join(lines))


def verify(source: Path) -> str:
    """The SHA-256 of ``source``; ValueError unless it is the one recorded in ``assets/SHA256SUMS``."""
    lines = [line.split() for line in (ASSETS / "SHA256SUMS").read_text().splitlines()]
    recorded = {name: digest for digest, name in lines}
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if recorded.get(source.name) != found:
        raise ValueError(
            f"{source.name} must have the sha256 {recorded.get(source.name)} recorded in SHA256SUMS. Got {found}. "
            "Restore the file, or record the new sum after training it again."
        )
    return found
