"""Writes class rows for other frameworks, with the names beside them:

python tools/export_rows.py --prompt work_dirs/cls_toy_coop/prompt.safetensors --names coco_ovd --out rows.npy
python tools/export_rows.py --config configs/ovd_toy_nfl.py --checkpoint CKPT --names names.txt --out rows.safetensors
"""

import argparse
import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from mmengine.config import DictAction

import subpt_dense.toyworld  # noqa: F401 - its CLIPs are then known by name
from subpt_dense.apis import load_config
from subpt_dense.datasets import file_sha256, get_split, resolve_names
from subpt_dense.heads import complete_prompt
from subpt_dense.prompts import LearnedPrompt, PromptHead, load_prompt, save_rows
from subpt_dense.prompts.sealed import write_bytes
from subpt_dense.registry import MODELS

SUFFIXES = (".npy", ".pt", ".safetensors")
#: What may differ between a checkpoint's head and the config's: where the weights lay, how precisely they compute.
INCIDENTAL = ("weights", "precision", "file", "subspace")


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags; those that contradict each other are refused."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prompt", metavar="FILE.safetensors", help="a prompt file")
    source.add_argument("--config", help="a config, whose prompt head is taken")
    parser.add_argument("--checkpoint", metavar="CKPT", help="what that head has learned")
    parser.add_argument(
        "--names", required=True, help="a .txt file with one class name a line, or a split: coco_ovd, or a .json file"
    )
    parser.add_argument("--out", required=True, help=f"the file to write: {', '.join(SUFFIXES)}")
    parser.add_argument("--text-pretrained", metavar="PATH", help="where the CLIP's weights lie, if not where they did")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="overrides of the config")
    options = parser.parse_args(arguments)
    if options.prompt and (options.checkpoint or options.cfg_options):
        parser.error("--checkpoint and --cfg-options go with --config, not with --prompt")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the head, write its rows, say what was written."""
    options = parse_args(arguments)
    try:
        print(export(options))
    except (FileNotFoundError, ValueError, RuntimeError, TypeError) as error:
        raise SystemExit(f"error: {error}") from None


def export(options: argparse.Namespace) -> str:
    """Write the file; returns the line to print.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file is refused, or the rows cannot be had without images or a checkpoint.
    """
    out = Path(options.out)
    if out.suffix not in SUFFIXES:
        raise ValueError(f"`--out` must end in {', '.join(SUFFIXES)}. Got {options.out!r}.")
    names = read_names(options.names)
    head = head_of_file(options.prompt, options.text_pretrained) if options.prompt else head_of_config(options)
    if head.conditional:
        raise ValueError(
            f"Rows to export must not depend on the image. Those of {type(head).__name__} do: there are no rows [K, D]."
        )
    head.vocabulary = names
    rows = head.eval()().detach().cpu()
    facts = head.identity()
    write_rows(out, rows, names, facts, source=Path(options.prompt or options.checkpoint or options.config).name)
    where = f"{facts['backbone']} ({facts['weights']})"
    return f"{out}: rows {list(rows.shape)} of {type(head).__name__} on {where}, sha256 {file_sha256(out)}"


def read_names(names: str) -> tuple[str, ...]:
    """The class names of a text file, or all of a split's."""
    return resolve_names(names) if names.endswith(".txt") else get_split(names).all


def head_of_file(path: str, pretrained: str | None) -> PromptHead:
    """The head of a prompt file, on the CLIP it was learned with."""
    identity = load_prompt(path).identity
    model, weights = identity["backbone"], identity["weights"]
    if pretrained is None and not open_clip.is_pretrained_cfg(model, weights):
        raise ValueError(
            f"`--text-pretrained` must say where the weights of {model!r} lie with which {path} was learned: a file, "
            f"{weights!r}."
        )
    text = {"model": model, "pretrained": pretrained or weights, "precision": identity["precision"]}
    return LearnedPrompt(path, text)


def head_of_config(options: argparse.Namespace) -> PromptHead:
    """The prompt head of a config, with what a checkpoint says it has learned."""
    cfg = load_config(options.config, options=options.cfg_options)
    if "prompt" not in cfg.get("model", {}):
        raise ValueError(f"`--config` must have a prompt head, `model.prompt`. {options.config} has none.")
    language = cfg.model.get("language")
    if options.text_pretrained:
        if not language or "text" not in language:
            raise ValueError(f"`--text-pretrained` needs `model.language.text`. {options.config} has none.")
        language.text.pretrained = options.text_pretrained
    head: PromptHead = MODELS.build(complete_prompt(cfg.model.prompt, language))
    if options.checkpoint:
        load_head(head, options.checkpoint)
    elif head.prompt_parameters():
        raise ValueError(
            f"`--checkpoint` must be given for {options.config}: its {type(head).__name__} has learned nothing yet."
        )
    return head


def load_head(head: PromptHead, path: str) -> None:
    """Take up the head's part of a checkpoint, if it is this head's."""
    checkpoint = read_checkpoint(path)
    wanted, found = head.identity(), checkpoint.get("prompt_identity")
    if found is None:
        raise ValueError(f"{path} does not say which prompt head wrote it: it was written without PromptIdentityHook.")
    differing = [k for k in {**wanted, **found} if k not in INCIDENTAL and found.get(k) != wanted.get(k)]
    if differing:
        sides = "; ".join(f"{key}: checkpoint {found.get(key)!r}, config {wanted.get(key)!r}" for key in differing)
        raise ValueError(f"`--checkpoint` must come from the config's prompt head. {path} does not: {sides}.")
    prefix = "prompt."
    state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    head.load_state_dict(state)


def read_checkpoint(path: str) -> Mapping[str, Any]:
    """A checkpoint of mmengine's, on the CPU."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"The checkpoint must be an existing file. Got {path!r}.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(checkpoint, Mapping) or "state_dict" not in checkpoint:
        raise ValueError(f"{path} is no checkpoint of a training: it has no `state_dict`.")
    return checkpoint


def write_rows(out: Path, rows: torch.Tensor, names: Sequence[str], facts: Mapping[str, Any], source: str) -> None:
    """Rows ``[K, D]`` with their names: inside a .safetensors file, one a line in ``<out>.names.txt`` beside others."""
    if out.suffix == ".safetensors":
        origin = {key: facts[key] for key in ("backbone", "weights", "weights_hash")}
        save_rows(out, rows, names, prompt=f"{facts['type']} of {source}", **origin)
        return
    data = io.BytesIO()
    if out.suffix == ".npy":
        np.save(data, rows.numpy(), allow_pickle=False)
    else:
        torch.save(rows.clone(), data)  # of a view, all of its storage would be saved
    lines = [" ".join(name.split()) for name in names]
    write_bytes(out.with_suffix(".names.txt"), "".join(f"{line}\n" for line in lines).encode())
    write_bytes(out, data.getvalue())


if __name__ == "__main__":
    main()
