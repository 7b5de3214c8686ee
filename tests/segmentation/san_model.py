"""SAN from mmseg's own config, shrunk to a tiny CLIP, and pictures for it."""

from pathlib import Path
from typing import Any

import mmseg
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from subpt_dense.registry import MODELS
from subpt_dense.segmentation.multimodal import OVMultimodalSegmentor
from tests.tiny_clip import tiny_config, write_tiny_clip

OWN = Path(mmseg.__file__).parent / ".mim/configs/san/san-vit-b16_coco-stuff164k-640x640.py"
CONFIGS = Path(__file__).parents[2] / "configs"
SEEN = ("red star", "blue ring")
ALL = (*SEEN, "green oval")
#: Layers of the tiny CLIP that SAN's image encoder takes; the third recognises masks.
ENCODED = 2
WIDTH, DIM, QUERIES = 32, 24, 8

_SIDE = {"clip_channels": WIDTH, "embed_dims": 24, "num_queries": QUERIES, "fusion_index": [0, 1, 2]}
_LAYERS = {"cfg_encoder": {"num_encode_layer": 3, "num_heads": 2}}
_DECODER = {"cfg_decoder": {"num_heads": 2, "embed_channels": 16, "mlp_channels": 16}}
#: What makes a ``model`` for B/16 one for the tiny CLIP.
SMALL = {
    "image_encoder": {
        "img_size": (32, 32),
        "embed_dims": WIDTH,
        "num_layers": ENCODED,
        "num_heads": 2,
        "out_indices": (0, 1),
    },
    "decode_head": {
        "deep_supervision_idxs": [2],
        "san_cfg": {**_SIDE, **_LAYERS, **_DECODER},
        "maskgen_cfg": {
            "sos_token_num": QUERIES,
            "num_layers": 1,
            "embed_dims": WIDTH,
            "num_heads": 2,
            "out_dims": DIM,
        },
        "train_cfg": {"num_points": 64},
    },
}


def write_vit_clip(root: Path, seed: int = 0, **vision: Any) -> dict[str, str]:
    """A tiny CLIP whose image tower has three layers; ``vision`` overrides that part of its config."""
    config = tiny_config()
    config["vision_cfg"] = {**config["vision_cfg"], "layers": ENCODED + 1, **vision}
    name, path = write_tiny_clip(root, seed=seed, config=config)
    return {"model": name, "pretrained": path}


def san_config(clip: dict[str, str], prompt: str = "TemplatePrompt", **options: Any) -> Config:
    """The ``model`` of mmseg's config with our segmentor and text encoder in it, and small numbers."""
    init_default_scope("mmseg")  # as the config says: it does not prefix its types
    config = Config.fromfile(OWN)
    model = config.model
    model.text_encoder = {"type": "subpt_dense.RowsTextEncoder", "embed_dim": DIM, "text": clip}
    model.type = "subpt_dense.OVMultimodalSegmentor"
    model.prompt = {"type": f"subpt_dense.{prompt}", **({"length": 4} if prompt == "ContextPrompt" else {})}
    model.language = {"text": clip}
    model.pretrained = clip
    config.merge_from_dict({"model": SMALL})
    config.model.decode_head.type = "subpt_dense.OVSideAdapterHead"
    config.merge_from_dict({f"model.{key}": value for key, value in options.items()})
    return config.model


def build_san(
    clip: dict[str, str],
    prompt: str = "TemplatePrompt",
    vocabulary: tuple[str, ...] = SEEN,
    *,
    init: bool = True,
    **options: Any,
) -> OVMultimodalSegmentor:
    """The segmentor, with its weights drawn (seed 0) and the CLIP's loaded unless ``init`` is False."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.build(san_config(clip, prompt, **options))
        if init:
            model.init_weights()
    model.set_vocabulary(vocabulary)
    return model


def pictures(images: int = 2, side: int = 64, labels: tuple[int, ...] = (0, 1), seed: int = 0) -> tuple[Any, ...]:
    """Random images, and for each a label map: bands of ``labels``, the lowest quarter ignored."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(images, 3, side, side, generator=generator)
    samples = []
    for _ in range(images):
        target = torch.full((1, side, side), 255)
        height = side * 3 // 4 // max(1, len(labels))
        for i, label in enumerate(labels):
            target[:, i * height : (i + 1) * height] = label
        size = {"ori_shape": (side, side), "img_shape": (side, side), "pad_shape": (side, side)}
        sample = SegDataSample(metainfo=size)
        sample.gt_sem_seg = PixelData(data=target)
        samples.append(sample)
    return inputs, samples
