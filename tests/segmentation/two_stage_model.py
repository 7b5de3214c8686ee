"""The two-stage segmentor on mmseg's own MaskFormer config, shrunk, with a tiny CLIP for the regions."""

from pathlib import Path
from typing import Any

import mmseg
import torch
from mmengine.config import Config, ConfigDict

from subpt_dense.registry import MODELS
from subpt_dense.segmentation import OVSegmentor, ProposalCLIPHead
from tests.segmentation.san_model import DIM, SEEN

OWN = Path(mmseg.__file__).parent / ".mim/configs/maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py"
QUERIES = 6
_ATTENTION = {"embed_dims": 32, "num_heads": 2, "attn_drop": 0.0, "proj_drop": 0.0}
_FFN = {"embed_dims": 32, "feedforward_channels": 32, "ffn_drop": 0.0}
_LAYER = {"self_attn_cfg": _ATTENTION, "cross_attn_cfg": _ATTENTION, "ffn_cfg": _FFN}
#: What makes a MaskFormer head for ResNet-50 a small one.
SMALL = {
    "in_channels": [8, 16],
    "in_index": [0, 1],
    "feat_channels": 32,
    "out_channels": 32,
    "num_queries": QUERIES,
    "pixel_decoder": {"norm_cfg": {"num_groups": 4}},
    "positional_encoding": {"num_feats": 16},
    "transformer_decoder": {"num_layers": 2, "layer_cfg": _LAYER},
}


def head_config(clip: dict[str, str] | None = None, own: bool = False, **options: Any) -> ConfigDict:
    """mmseg's MaskFormer head with small numbers; ours, unless ``own``."""
    config = Config.fromfile(OWN)
    config.merge_from_dict({"model": {"decode_head": {**SMALL, "type": "mmseg.MaskFormerHead"}}})
    head = config.model.decode_head
    if not own:
        regions = None if clip is None else {**clip, "batch": 4}
        ours = {"type": "subpt_dense.ProposalCLIPHead", "embed_dim": DIM, "hidden_dim": 16, "temperature": 0.05}
        head.update({**ours, "regions": regions})
        config.merge_from_dict({f"model.decode_head.{key}": value for key, value in options.items()})
    return config.model.decode_head


def build_head(clip: dict[str, str] | None = None, own: bool = False, **options: Any) -> ProposalCLIPHead:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = MODELS.build(head_config(clip, own, **options))
        head.init_weights()
    return head


def segmentor_config(clip: dict[str, str], prompt: str = "TemplatePrompt", **options: Any) -> ConfigDict:
    """The whole model: a small ResNet, the head above, one prompt head."""
    backbone = {
        "type": "mmseg.ResNet",
        "depth": 18,
        "base_channels": 8,
        "stem_channels": 8,
        "num_stages": 2,
        "strides": (1, 2),
        "dilations": (1, 1),
        "out_indices": (0, 1),
    }
    return ConfigDict(
        type="subpt_dense.OVSegmentor",
        prompt={"type": f"subpt_dense.{prompt}", **({"length": 4} if prompt == "ContextPrompt" else {})},
        language={"text": clip},
        backbone={"type": "subpt_dense.BackboneWithImages", "backbone": backbone},
        decode_head=head_config(clip, **options),
        train_cfg={},
        test_cfg={"mode": "whole"},
    )


def build_two_stage(
    clip: dict[str, str], prompt: str = "TemplatePrompt", vocabulary: tuple[str, ...] = SEEN, **options: Any
) -> OVSegmentor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.build(segmentor_config(clip, prompt, **options))
        model.init_weights()
    model.set_vocabulary(vocabulary)
    return model
