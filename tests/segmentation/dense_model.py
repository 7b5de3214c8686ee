"""The dense segmentor on a tiny CLIP, and small scenes on disk for real runs."""

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

import subpt_dense.segmentation  # noqa: F401  (registers its types)
from subpt_dense.registry import MODELS
from subpt_dense.segmentation import OVSegmentor

SEEN = ("cat", "dog", "sky")
ALL = ("cat", "owl", "dog", "sky")
META = {"classes": ALL, "base_classes": SEEN, "novel_classes": ("owl",)}
TEMPLATE = {"type": "subpt_dense.TemplatePrompt"}
COOP = {"type": "subpt_dense.ContextPrompt", "length": 4}
NFL = {**COOP, "anchors": [{"type": "subpt_dense.TextAnchor", "names": ["bee", "ant"], "templates": "single"}]}
_COUNT = itertools.count()


def segmentor_config(clip: dict[str, str], prompt: dict[str, Any] = TEMPLATE, **options: Any) -> ConfigDict:
    """A dense segmentor on a CLIP of D = 24 and cells of 16 pixels; ``options`` are keys with dots below ``model``."""
    model = {
        "type": "subpt_dense.OVSegmentor",
        "prompt": prompt,
        "language": {"text": dict(clip)},
        "data_preprocessor": {
            "type": "mmseg.SegDataPreProcessor",
            "mean": [127.5] * 3,
            "std": [63.75] * 3,
            "bgr_to_rgb": True,
            "size_divisor": 16,
            "test_cfg": {"size_divisor": 16},
        },
        "backbone": {"type": "subpt_dense.DenseCLIPBackbone", **clip},
        "decode_head": {"type": "subpt_dense.DenseCLIPHead", "embed_dim": 24},
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }
    cfg = Config({"model": copy.deepcopy(model)})
    cfg.merge_from_dict({f"model.{key}": value for key, value in options.items()})
    return cfg.model


def build_segmentor(
    clip: dict[str, str], prompt: dict[str, Any] = TEMPLATE, vocabulary: tuple[str, ...] = ALL, **options: Any
) -> OVSegmentor:
    torch.manual_seed(0)
    model = MODELS.build(segmentor_config(clip, prompt, **options))
    model.init_weights()
    model.set_vocabulary(vocabulary, base=SEEN)
    return model


def batch(
    count: int = 2, size: tuple[int, int] = (64, 96), classes: int = 3
) -> tuple[torch.Tensor, list[SegDataSample]]:
    """Normalised random images with labels in blocks of 16 pixels, the last column ignored."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, *size, generator=generator)
    samples = []
    for _ in range(count):
        cells = torch.randint(0, classes, (1, size[0] // 16, size[1] // 16), generator=generator)
        labels = cells.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
        labels[..., -16:] = 255
        sample = SegDataSample(metainfo={"img_shape": size, "ori_shape": size, "pad_shape": size})
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return images, samples


def write_scenes(root: Path, count: int = 6, sizes: tuple[tuple[int, int], ...] = ((64, 64),)) -> Path:
    """Pictures ``img/<i>.png`` of halves in the classes' colours, ``all/<i>.png`` with their labels, and
    ``seen/<i>.png`` with those of seen classes, the unseen one ignored."""
    rng = np.random.default_rng(0)
    colours = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 220, 220)])
    position = np.array([SEEN.index(name) if name in SEEN else 255 for name in ALL], dtype=np.uint8)
    for folder in ("img", "all", "seen"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        height, width = sizes[i % len(sizes)]
        labels = np.zeros((height, width), dtype=np.uint8)
        left, right = rng.choice(4, 2, replace=False)
        labels[:, : width // 2], labels[:, width // 2 :] = left, right
        noise = rng.integers(-20, 20, (height, width, 3))
        Image.fromarray((colours[labels] + noise).clip(0, 255).astype(np.uint8)).save(root / "img" / f"{i}.png")
        Image.fromarray(labels).save(root / "all" / f"{i}.png")
        Image.fromarray(position[labels]).save(root / "seen" / f"{i}.png")
    return root


def scenes_config(root: Path, group: str = "all", **options: Any) -> dict[str, Any]:
    """mmseg's own data set on :func:`write_scenes`."""
    testing = group == "all"
    steps = ["LoadImageFromFile", "mmseg.LoadAnnotations", "mmseg.PackSegInputs"]
    return {
        "type": "mmseg.BaseSegDataset",
        "data_root": str(root),
        "data_prefix": {"img_path": "img", "seg_map_path": group},
        "img_suffix": ".png",
        "metainfo": {**META, "classes": ALL if testing else SEEN},
        "pipeline": [{"type": step} for step in steps],
        "test_mode": testing,
        **options,
    }


def make_runner(work_dir: Path, model: dict[str, Any], train: dict | None, test: dict, **options: Any) -> Runner:
    """A Runner of ``model`` with our hooks; ``options`` are keys with dots of its config."""

    def loader(dataset: dict, shuffle: bool) -> dict[str, Any]:
        kind = "mmengine.InfiniteSampler" if shuffle else "mmengine.DefaultSampler"
        return {
            "batch_size": 2 if shuffle else 1,
            "num_workers": 0,
            "sampler": {"type": kind, "shuffle": shuffle},
            "dataset": dataset,
        }

    evaluator = {"type": "mmseg.IoUMetric", "iou_metrics": ["mIoU"]}
    hooks = {"vocabulary": "VocabularyHook", "finite_loss": "FiniteLossHook", "identity": "PromptIdentityHook"}
    cfg: dict[str, Any] = {
        "model": model,
        "work_dir": str(work_dir),
        "default_scope": "mmseg",
        "experiment_name": f"{work_dir.name}{next(_COUNT)}",
        "test_dataloader": loader(test, False),
        "test_evaluator": evaluator,
        "test_cfg": {"type": "mmengine.TestLoop"},
        "default_hooks": {name: {"type": f"subpt_dense.{kind}"} for name, kind in hooks.items()},
        "randomness": {"seed": 0},
        "log_level": "WARNING",
    }
    if train is not None:
        cfg |= {
            "train_dataloader": loader(train, True),
            "train_cfg": {"type": "mmengine.IterBasedTrainLoop", "max_iters": 20, "val_interval": 10},
            "val_dataloader": loader(test, False),
            "val_evaluator": evaluator,
            "val_cfg": {"type": "mmengine.ValLoop"},
            "optim_wrapper": {"type": "mmengine.OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.05}},
        }
        cfg["default_hooks"]["checkpoint"] = {"type": "mmengine.CheckpointHook", "by_epoch": False, "interval": 20}
        cfg["log_processor"] = {"by_epoch": False}
    made = Config(copy.deepcopy(cfg))
    made.merge_from_dict(options)
    return Runner.from_cfg(made)
