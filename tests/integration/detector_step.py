"""The gradients of the toy detector on a fixed batch: of all of it, or of a half in one of two processes.

Everything that draws is fixed: the samplers take all boxes, and no picture is flipped. BatchNorm keeps its statistics,
or takes them over all processes (``shared``), as :func:`subpt_dense.apis.train` has it. Imports no other test: a
process starts it.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from subpt_dense.apis.shared_norm import share_batch_norm
from subpt_dense.detection import OVTwoStageDetector
from subpt_dense.registry import MODELS

Batch = tuple[Tensor, list[DetDataSample]]
CONFIG = Path(__file__).parents[2] / "configs" / "ovd_toy_nfl.py"  # a loss of every kind
SIZE = 64


def build(clip: Path, kind: str = "equal") -> OVTwoStageDetector:
    """CoOp with NFL on a tiny CLIP."""
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({
        "model.language.text.pretrained": str(clip),
        "model.backbone.pretrained": str(clip),
        "model.language.names": {"generic": ["pink framed bar", "green dotted oval"]},
        # More than there are: a random sampler then takes all boxes and draws nothing.
        "model.train_cfg.rpn.sampler.num": 100_000,
        "model.train_cfg.rcnn.sampler.num": 100_000,
        "model.train_cfg.rpn_proposal.max_per_img": 12,  # no picture has fewer
    })  # fmt: skip
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.set_vocabulary(("red striped star", "blue plain ring"))
    model.rpn_head.rpn_cls.weight.data *= 50  # a new one says the same of every anchor, whatever the mean is over
    model.train()
    if kind == "shared":
        share_batch_norm(model)
        return model
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return model


def pictures(kind: str) -> Batch:
    """Four normalised pictures with two boxes each, or the last two with one box (``unequal``)."""
    inputs = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[4.0, 6.0, 30.0, 40.0], [24.0, 6.0, 50.0, 40.0]])
    samples = []
    for number in range(4):
        shape = (SIZE, SIZE)
        sample = DetDataSample(metainfo={"img_shape": shape, "pad_shape": shape, "batch_input_shape": shape})
        count = 1 if kind == "unequal" and number >= 2 else 2
        sample.gt_instances = InstanceData(bboxes=boxes[:count], labels=torch.arange(count))
        samples.append(sample)
    return inputs, samples


def half(whole: Batch, rank: int) -> Batch:
    """One process's part."""
    mine = slice(2 * rank, 2 * rank + 2)
    return whole[0][mine], whole[1][mine]


def losses(model: Any, data: Batch) -> dict[str, Tensor]:
    """Each term, summed over levels."""
    found = model(*data, mode="loss")
    return {k: torch.as_tensor(sum(v) if isinstance(v, list) else v) for k, v in found.items() if "loss" in k}


def gradients(model: Any, data: Batch) -> dict[str, Tensor]:
    """Of every trained parameter, for the sum of all terms; ``model`` may be wrapped."""
    torch.stack([*losses(model, data).values()]).sum().backward()
    host = model.module if isinstance(model, MMDistributedDataParallel) else model
    return {name: value.grad.clone() for name, value in host.named_parameters() if value.requires_grad}


def run_process(rank: int, folder: Path, clip: Path) -> None:
    """One of two processes: writes its gradients for each kind of batch to ``<kind><rank>.pt``."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for kind in ("equal", "shared", "unequal"):
        model = MMDistributedDataParallel(build(clip, kind), device_ids=None)
        torch.save(gradients(model, half(pictures(kind), rank)), folder / f"{kind}{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    run_process(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
