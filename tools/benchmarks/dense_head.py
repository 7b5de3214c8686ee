"""What the image side and the text side of a dense prompt's training step cost: memory and time, side by side.

    python tools/benchmarks/dense_head.py [--quick] [--classes 15] [--json FILE]

A frozen CLIP with random weights segments two random images; 16 context tokens are learned. A step is the loss of the
dense segmentor, forward and backward to the context. All steps have the same weights, context, images and labels:

- ``text``: rows and a fixed linear functional of them alone, by this project's text encoder
- ``cached``: maps that were computed beforehand (:class:`subpt_dense.segmentation.CachedMaps`), this text encoder
- ``images``: the image tower in every step, this text encoder
- ``zsseg``: as zsseg trains its prompts (arXiv 2112.14757) and CoOp before: the image tower in every step, and 77
  tokens a class through open_clip's own text transformer

``cached`` less ``text`` is what is left of the image side. ``saved`` is what autograd keeps from forward to backward,
``peak`` the most tensor memory in use at once, both above what was there before the step. Times are medians over the
rounds, ratios medians of the ratio within a round. The maps lie in memory: in training they come from a memory map.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from counting import MIB, count, peak_bytes, storages_alive
from measure import Timing, commit, interleaved, machine, paired_ratio, paired_ratios
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor

import subpt_dense.segmentation  # noqa: F401  (registers its types)
from subpt_dense.datasets import write_json
from subpt_dense.datasets.name_lists import coco_stuff
from subpt_dense.registry import MODELS
from subpt_dense.segmentation.map_facts import DENSE

MODEL = "ViT-B-16-quickgelu"
STEPS = ("text", "cached", "images", "zsseg")
BATCH, CONTEXT_LENGTH = 2, 16
#: How far the gradient of ``cached`` may be from that of ``images``: maps are float16. ``zsseg`` differs by rounding.
TOLERANCES = {"cached": 5e-3, "zsseg": 1e-3}

Step = Callable[[], Tensor]


def write_clip(folder: Path, quick: bool) -> dict[str, str]:
    """A CLIP with random weights, none of its norms and biases 0 or 1; with ``quick`` of two narrow layers a tower."""
    config = open_clip.get_model_config(MODEL)
    if quick:
        config["embed_dim"] = 64
        config["vision_cfg"] |= {"image_size": 64, "width": 64, "head_width": 32, "layers": 2}
        config["text_cfg"] |= {"width": 64, "heads": 2, "layers": 2}
    name = f"dense-head-benchmark{'-quick' * quick}"
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(0)
        clip = open_clip.create_model(name, load_weights=False)
        for parameter in clip.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    path = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in clip.state_dict().items()}, str(path))
    return {"model": name, "pretrained": str(path)}


def build(clip: Mapping[str, str], encoder: str, names: Sequence[str]) -> Any:
    """The dense segmentor of ``configs/_base_/segmentors/clip_b16.py``, learning a context, in training."""
    torch.manual_seed(0)
    dim = open_clip.get_model_config(clip["model"])["embed_dim"]
    config = {
        "type": "subpt_dense.OVSegmentor",
        "prompt": {"type": "subpt_dense.ContextPrompt", "length": CONTEXT_LENGTH, "encoder": encoder},
        "language": {"text": dict(clip)},
        "data_preprocessor": {"type": "subpt_dense.DensePreProcessor", "size_divisor": 16},
        "backbone": {
            "type": "subpt_dense.DenseCLIPBackbone",
            **{"attention": "qq", "residual": False, "mlp": False},
            **clip,
        },
        "decode_head": {"type": "subpt_dense.DenseCLIPHead", "embed_dim": dim},
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }
    model = MODELS.build(ConfigDict(config)).train()
    model.set_vocabulary(names, base=names)
    return model


def make_steps(clip: Mapping[str, str], names: Sequence[str], quick: bool) -> dict[str, Step]:
    """A step each; it returns the gradient of the context ``[M, W]``."""
    ours, theirs = build(clip, "auto", names), build(clip, "reference", names)
    side = 64 if quick else 224
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(BATCH, 3, side, side, generator=generator)
    labels = torch.randint(0, len(names), (BATCH, 1, side, side), generator=generator)
    facts = {**ours.backbone.identity(), "stride": 16}
    samples = [
        SegDataSample(metainfo={"img_shape": (side, side), DENSE: facts}, gt_sem_seg=PixelData(data=one))
        for one in labels
    ]
    maps = ours.backbone(images)[0].half().float()
    direction = torch.arange(len(names) * maps.shape[1], dtype=torch.float32).sin().view(len(names), -1)

    def of_loss(model: Any, inputs: Tensor) -> Step:
        def step() -> Tensor:
            return torch.autograd.grad(model.loss(inputs, samples)["decode.loss_ce"], model.prompt.context)[0]

        return step

    def text() -> Tensor:
        return torch.autograd.grad(ours.prompt(), ours.prompt.context, direction)[0]

    return {
        "text": text,
        "cached": of_loss(ours, maps),
        "images": of_loss(ours, images),
        "zsseg": of_loss(theirs, images),
    }


def differences(gradients: Mapping[str, Tensor]) -> dict[str, float]:
    """Distance of each way's gradient from that of ``images``, relative to its norm.

    Raises:
        RuntimeError: If one is larger than rounding explains: the ways would not be doing the same.
    """
    own = gradients["images"]
    found = {name: ((gradients[name] - own).norm() / own.norm()).item() for name in TOLERANCES}
    for name, limit in TOLERANCES.items():
        if not found[name] < limit:
            raise RuntimeError(f"The gradient of {name!r} must be that of 'images' up to {limit}. Got {found[name]}.")
    return found


def measure(names: Sequence[str], rounds: int, seconds: float, quick: bool) -> dict[str, Any]:
    """Memory, times and ratios of all steps."""
    with tempfile.TemporaryDirectory() as folder:
        steps = make_steps(write_clip(Path(folder), quick), names, quick)
        gradients = {name: step() for name, step in steps.items()}  # what is computed once is there from here on
    before = storages_alive()
    counts = {name: count(step, before) for name, step in steps.items()}
    memory = {
        name: {"saved_mib": counts[name].saved / MIB, "peak_mib": peak_bytes(steps[name]) / MIB} for name in steps
    }
    timings = interleaved(steps, rounds, budget=seconds)
    return {
        "device": machine(),
        "commit": commit(),
        "model": MODEL + " (two narrow layers)" * quick,
        "classes": len(names),
        "images": BATCH,
        "rounds": len(timings["text"]),
        "gradient_differences": differences(gradients),
        "gigaflops": {name: counts[name].flops / 1e9 for name in steps},
        "memory": memory,
        "step_ms": {name: _medians(found) for name, found in timings.items()},
        "over_cached": {
            name: {**_ratios(timings[name], timings["cached"]), **_over(memory[name], memory["cached"])}
            for name in STEPS
            if name != "cached"
        },
    }


def _medians(found: Sequence[Timing]) -> dict[str, float]:
    return {field: 1e3 * statistics.median(getattr(one, field) for one in found) for field in Timing._fields}


def _ratios(slow: Sequence[Timing], fast: Sequence[Timing]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in Timing._fields:
        every = paired_ratios(slow, fast, field)
        found |= {field: paired_ratio(slow, fast, field), f"{field}_range": [min(every), max(every)]}
    return found


def _over(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {key.removesuffix("_mib"): one[key] / other[key] for key in one}


def show(found: Mapping[str, Any]) -> None:
    """Print the table."""
    table = Table(title=f"{found['model']}, {found['classes']} classes, {found['images']} images")
    for column in ("step", "CPU ms", "wall ms", "saved MiB", "peak MiB", "CPU", "wall", "saved", "peak"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for name in STEPS:
        took, memory, over = found["step_ms"][name], found["memory"][name], found["over_cached"].get(name)
        ratios = ["1"] * 4 if over is None else [f"{over[key]:.2f}" for key in ("cpu", "wall", "saved", "peak")]
        figures = [*took.values(), *memory.values()]
        table.add_row(name, *(f"{value:.1f}" for value in figures), *ratios)
    console = Console()
    console.print(table)
    console.print("The last four columns are ratios over `cached`.")
    console.print(f"{found['device']}; commit {found['commit']}; {found['rounds']} rounds")


def main() -> None:
    """Parse, measure, show, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two narrow layers: shows that it runs, no figure")
    parser.add_argument("--classes", type=int, default=15, help="names of COCO-Stuff, 2 to 171 (default: VOC's 15)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=300, help="after which no further round begins")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE, too")
    args = parser.parse_args()
    names = coco_stuff()
    if not 2 <= args.classes <= len(names) or args.rounds < 1:
        parser.error(
            f"--classes must be in [2, {len(names)}], --rounds at least 1. Got {args.classes} and {args.rounds}."
        )
    torch.set_num_threads(1)
    found = measure(names[: args.classes], args.rounds, args.seconds, args.quick)
    show(found)
    if args.json:
        write_json(args.json, found, indent=1)


if __name__ == "__main__":
    main()
