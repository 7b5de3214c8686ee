"""The tiny CLIPs' image trunk: a small fully convolutional timm network of stride 8, registered as ``subpt_toy_trunk``.

The tower that open_clip builds on it is trunk -> mean over the map -> linear, so projecting the map pixel by pixel
gives dense features whose mean is the image feature.
"""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from torch import nn

_BLOCKS = tuple(
    ByoBlockCfg(type="basic", d=1, c=channels, s=stride, gs=0, br=1.0)
    for channels, stride in ((48, 2), (96, 2), (128, 1))
)
_LAYOUT = ByoModelCfg(blocks=_BLOCKS, stem_type="3x3", stem_pool="", stem_chs=24, zero_init_last=False)
_SETTINGS = {
    **{"input_size": (3, 64, 64), "pool_size": (8, 8), "num_classes": 1000},
    **{"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "first_conv": "stem.conv", "classifier": "head.fc"},
}
default_cfgs = generate_default_cfgs({"subpt_toy_trunk": _SETTINGS})  # looked up here, by this name, by timm


@register_model
def subpt_toy_trunk(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """0.5 M parameters; a map of 128 channels at an eighth of the input's size. Has no weights of its own."""
    return build_model_with_cfg(ByobNet, "subpt_toy_trunk", pretrained, model_cfg=_LAYOUT, **kwargs)
