"""A CLIP's own trunk as a backbone: same maps, same weights, trainable."""

import open_clip
import pytest
import torch
from mmengine.model import BaseModule

from subpt_dense.detection import CLIPTrunk
from subpt_dense.registry import MODELS
from subpt_dense.toyworld import MODEL_NAME


@pytest.fixture(scope="module")
def trunk(toy_clip) -> CLIPTrunk:
    config = {"type": "subpt_dense.CLIPTrunk", "model": MODEL_NAME, "pretrained": str(toy_clip)}
    return MODELS.build(config).eval()


def test_the_map_is_the_image_towers(trunk, toy_clip):
    clip = open_clip.create_model(MODEL_NAME, pretrained=str(toy_clip)).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (found,) = trunk(images)
        assert found.shape == (2, 128, 8, 8)
        torch.testing.assert_close(found, clip.visual.trunk.forward_features(images))
        pooled = clip.visual.head(found.mean((2, 3)))
        torch.testing.assert_close(pooled, clip.encode_image(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 192), (8, 16)])
def test_stride_eight_at_any_size(trunk, height, width):
    with torch.no_grad():
        assert trunk(torch.zeros(1, 3, height, width))[0].shape == (1, 128, height // 8, width // 8)


def test_stages(toy_clip):
    trunk = CLIPTrunk(MODEL_NAME, str(toy_clip), out_indices=(0, 1, -1)).eval()
    with torch.no_grad():
        maps = trunk(torch.zeros(1, 3, 64, 64))
    assert [tuple(x.shape[1:]) for x in maps] == [(24, 32, 32), (48, 16, 16), (128, 8, 8)]


def test_init_weights_keeps_the_weights(trunk):
    before = {name: value.clone() for name, value in trunk.state_dict().items()}

    class Host(BaseModule):
        def __init__(self) -> None:
            super().__init__(init_cfg={"type": "Normal", "layer": "Linear", "std": 1.0})
            self.backbone = trunk

    Host().init_weights()
    trunk.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())


def test_from_scratch_is_random(trunk):
    torch.manual_seed(0)
    scratch = CLIPTrunk(MODEL_NAME, None)
    name, weight = next((n, p) for n, p in scratch.named_parameters() if p.ndim == 4)
    assert not torch.equal(weight, dict(trunk.named_parameters())[name])
    assert {*scratch.state_dict()} == {*trunk.state_dict()}


def test_every_parameter_is_used(toy_clip):
    trunk = CLIPTrunk(MODEL_NAME, str(toy_clip)).train()
    trunk(torch.randn(2, 3, 32, 32))[0].square().mean().backward()
    assert all(parameter.grad is not None for parameter in trunk.parameters())


def test_other_towers_are_refused(tiny_clip):
    message = f"with a timm image tower. Got '{tiny_clip[0]}', whose tower is a VisionTransformer"
    with pytest.raises(ValueError, match=message):
        CLIPTrunk(*tiny_clip)
