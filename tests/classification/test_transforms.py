from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from mmengine.dataset import Compose
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import hflip, pil_to_tensor, resized_crop

import subpt_dense.classification  # noqa: F401  (registers)
from subpt_dense.classification.transforms import CLIPAugment, CLIPCrop, LoadImageRGB, PackImage


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def item(path: object = "x.png", **extra: object) -> dict:
    return {"img_path": str(path), "gt_label": 3, "sample_idx": 7, **extra}


class TestLoad:
    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [("RGB", "png"), ("L", "png"), ("P", "png"), ("RGBA", "png"), ("1", "png"), ("CMYK", "jpg"), ("L", "jpg")],
    )
    def test_every_mode_becomes_rgb(self, tmp_path: Path, mode: str, suffix: str) -> None:
        path = tmp_path / f"a.{suffix}"
        picture(20, 10, mode).save(path)
        loaded = LoadImageRGB()(item(path))
        assert loaded["img"].mode == "RGB" and loaded["img"].size == (20, 10) and loaded["gt_label"] == 3
        assert np.array_equal(np.asarray(loaded["img"]), np.asarray(Image.open(path).convert("RGB")))

    def test_a_rotation_in_exif_is_ignored(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees
        picture(20, 10).save(tmp_path / "a.jpg", exif=exif)
        assert LoadImageRGB()(item(tmp_path / "a.jpg"))["img"].size == (20, 10)

    def test_what_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="The image .*no.png does not exist"):
            LoadImageRGB()(item(tmp_path / "no.png"))
        (tmp_path / "empty.png").touch()
        with pytest.raises(ValueError, match="The image .*empty.png cannot be read: .* Fetch it again"):
            LoadImageRGB()(item(tmp_path / "empty.png"))
        picture(200, 200).save(tmp_path / "cut.jpg")
        (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:4000])
        with pytest.raises(ValueError, match="The image .*cut.jpg cannot be read"):
            LoadImageRGB()(item(tmp_path / "cut.jpg"))


class TestCrop:
    @pytest.mark.parametrize("size", [32, 224])
    @pytest.mark.parametrize("shape", [(300, 200), (97, 333), (64, 64), (20, 31), (500, 499)])
    def test_equals_open_clips_preprocessing_to_the_bit(self, size: int, shape: tuple[int, int]) -> None:
        mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        reference = open_clip.image_transform(size, is_train=False, mean=mean, std=std)
        steps = Compose([CLIPCrop(size), PackImage()])
        ours = steps(item(img=picture(*shape)))["inputs"]
        assert ours.dtype == torch.uint8 and ours.shape == (3, size, size)
        normed = (ours.float() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        assert torch.equal(normed, reference(picture(*shape)))

    @pytest.mark.parametrize("size", [0, -1, 2.5, True, (64, 64)])
    def test_size_is_a_positive_integer(self, size: object) -> None:
        for step in (CLIPCrop, CLIPAugment):
            with pytest.raises(ValueError, match=f"`size` of {step.__name__} must be a positive integer. Got"):
                step(size)


class TestAugment:
    def test_is_a_bicubic_cut_mirrored_half_the_time(self) -> None:
        """Replayed from the same numbers by a reference of a few lines."""
        image, augment, mirrored = picture(90, 60), CLIPAugment(32), 0
        for seed in range(40):
            torch.manual_seed(seed)
            ours = augment({"img": image})["img"]
            torch.manual_seed(seed)
            top, left, height, width = augment._steps.transforms[0].get_params(image, (0.08, 1.0), (3 / 4, 4 / 3))
            assert 0.07 * 90 * 60 < height * width <= 90 * 60
            expected = resized_crop(image, top, left, height, width, [32, 32], InterpolationMode.BICUBIC)
            if torch.rand(1) < 0.5:
                expected, mirrored = hflip(expected), mirrored + 1
            assert torch.equal(pil_to_tensor(ours), pil_to_tensor(expected))
        assert 10 < mirrored < 30

    def test_without_chance_it_is_a_plain_resize(self) -> None:
        image = picture(64, 64)
        same = CLIPAugment(64, scale=(1.0, 1.0), flip=0.0)({"img": image})["img"]
        assert torch.equal(pil_to_tensor(same), pil_to_tensor(image))

    @pytest.mark.parametrize("scale", [(0, 1), (0.5, 0.2), (0.5, 1.5), (0.5,), (-0.1, 0.2)])
    def test_scale(self, scale: tuple[float, ...]) -> None:
        with pytest.raises(ValueError, match=r"`scale` of CLIPAugment must be two ascending numbers in \(0, 1\]. Got"):
            CLIPAugment(32, scale=scale)
        with pytest.raises(ValueError, match=r"`flip` of CLIPAugment must be in \[0, 1\]. Got 1.5"):
            CLIPAugment(32, flip=1.5)


def test_pack_leaves_what_the_model_takes() -> None:
    packed = PackImage()(item(img=picture(5, 4)))
    assert set(packed) == {"inputs", "label", "index"} and (packed["label"], packed["index"]) == (3, 7)
    assert torch.equal(packed["inputs"], torch.from_numpy(np.asarray(picture(5, 4)).copy()).permute(2, 0, 1))


def test_pipelines_of_different_arguments_have_different_reprs() -> None:
    """Cached features are found by the pipeline's repr."""
    configs = [
        [{"type": "subpt_dense.CLIPCrop", "size": 32}],
        [{"type": "subpt_dense.CLIPCrop", "size": 64}],
        [{"type": "subpt_dense.CLIPAugment", "size": 32}],
        [{"type": "subpt_dense.CLIPAugment", "size": 32, "scale": (0.5, 1.0)}],
        [{"type": "subpt_dense.CLIPAugment", "size": 32, "flip": 0.0}],
        [{"type": "subpt_dense.LoadImageRGB"}, {"type": "subpt_dense.PackImage"}],
    ]
    reprs = [repr(Compose(config)) for config in configs]
    assert len(set(reprs)) == len(reprs) and not any("0x" in text for text in reprs)
    assert reprs[0] == repr(Compose([{"size": 32, "type": "subpt_dense.CLIPCrop"}]))
