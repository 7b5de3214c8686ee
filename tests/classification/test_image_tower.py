"""The frozen image tower against open_clip's own encoding."""

import open_clip
import pytest
import torch

from subpt_dense.classification import get_image_tower
from subpt_dense.text import TextSpec
from tests.classification.conftest import SIZE


def images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)


def test_equals_open_clip(tiny_clip: tuple[str, str]) -> None:
    tower = get_image_tower(TextSpec(*tiny_clip))
    clip = open_clip.create_model(tiny_clip[0], pretrained=tiny_clip[1]).eval()
    mean, std = (torch.tensor(open_clip.get_model_preprocess_cfg(clip)[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        expected = clip.encode_image((images(5).float() / 255 - mean) / std, normalize=True)
    found = tower.encode(images(5))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert tower.scale == pytest.approx(clip.logit_scale.exp().item())
    assert tower.encode(images(0)).shape == (0, tower.embed_dim)


def test_is_loaded_once_and_draws_nothing(tiny_clip: tuple[str, str]) -> None:
    state = torch.get_rng_state()
    spec = TextSpec(*tiny_clip, precision="bf16")
    assert get_image_tower(spec) is get_image_tower(TextSpec(*tiny_clip, precision="bf16"))
    assert get_image_tower(spec) is not get_image_tower(TextSpec(*tiny_clip))
    assert torch.equal(state, torch.get_rng_state())
    found, wide = get_image_tower(spec).encode(images(3)), get_image_tower(TextSpec(*tiny_clip)).encode(images(3))
    assert found.dtype == torch.float32
    assert 0 < (found - wide).abs().max() < 0.05


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (images(1).float(), r"must be uint8 of shape \[B, 3, 32, 32\]. Got torch.float32 \[1, 3, 32, 32\]"),
        (images(1)[..., :16], r"Got torch.uint8 \[1, 3, 32, 16\]: set the pipeline's `size` to 32"),
    ],
)
def test_other_images_are_refused(tiny_clip: tuple[str, str], wrong: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_image_tower(TextSpec(*tiny_clip)).encode(wrong)
