"""Regions cut out, emptied outside of their masks, and seen by a frozen CLIP."""

import copy
import pickle
from unittest import mock

import open_clip
import pytest
import torch
from torch.nn.functional import interpolate

from subpt_dense.segmentation.masked_regions import MaskedRegions, bounding_boxes, masked_crops
from subpt_dense.vision import DenseTower
from tests.segmentation.san_model import DIM, write_vit_clip

SIZE = 32


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_vit_clip(tmp_path_factory.mktemp("vit_clip"))


def picture(height: int = 20, width: int = 30) -> torch.Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(0))


def masks(*boxes: tuple[int, int, int, int], height: int = 20, width: int = 30) -> torch.Tensor:
    """Ellipses in left, top, right, bottom, as probabilities; an empty box gives an empty mask."""
    found = torch.zeros(len(boxes), height, width)
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    for mask, (left, top, right, bottom) in zip(found, boxes, strict=True):
        if right > left:
            x, y = (columns - (left + right) / 2) / (right - left), (rows - (top + bottom) / 2) / (bottom - top)
            mask[(x**2 + y**2) < 0.26] = 0.9
    return found


BOXES = [(3, 2, 11, 17), (0, 0, 30, 20), (29, 19, 30, 20), (5, 7, 25, 8)]


def test_bounding_boxes():
    assert bounding_boxes(masks(*BOXES) > 0.5).tolist() == [list(box) for box in BOXES]
    assert bounding_boxes(torch.zeros(0, 4, 5, dtype=torch.bool)).shape == (0, 4)


def test_crops_are_zssegs():
    """Fill with the mean (0 here), cut the box, resize as it is: written out pixel by pixel."""
    image, inside = picture(), masks(*BOXES) > 0.5
    crops = masked_crops(image, inside, SIZE)
    assert crops.shape == (4, 3, SIZE, SIZE)
    for crop, mask, (left, top, right, bottom) in zip(crops, inside, BOXES, strict=True):
        filled = image.clone()
        filled[:, ~mask] = 0
        expected = interpolate(filled[None, :, top:bottom, left:right], (SIZE, SIZE), mode="bicubic")[0]
        torch.testing.assert_close(crop, expected)
    assert (crops[0] != crops[1]).any()


def test_no_mask_no_crop():
    assert masked_crops(picture(), torch.zeros(0, 20, 30, dtype=torch.bool), SIZE).shape == (0, 3, SIZE, SIZE)


def test_embeddings_are_the_clips(clip):
    tower = open_clip.create_model(clip["model"], pretrained=clip["pretrained"]).eval()
    probabilities = masks(BOXES[0], (0, 0, 0, 0), *BOXES[1:])
    embeddings, found = MaskedRegions(**clip, batch=2)(picture(), probabilities)
    assert found.tolist() == [True, False, True, True, True]
    with torch.no_grad():
        expected = tower.encode_image(masked_crops(picture(), probabilities[found] > 0.5, SIZE), normalize=True)
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=0)
    assert embeddings.shape == (4, DIM) and not torch.allclose(embeddings[0], embeddings[1], atol=1e-2)


def test_a_whole_image_of_the_clips_size_is_its_image_embedding(clip):
    tower = open_clip.create_model(clip["model"], pretrained=clip["pretrained"]).eval()
    image = picture(SIZE, SIZE)
    embeddings, _ = MaskedRegions(**clip)(image, torch.ones(1, SIZE, SIZE))
    with torch.no_grad():
        torch.testing.assert_close(embeddings, tower.encode_image(image[None], normalize=True), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1, 1, 1, 1]), (3, [3, 1]), (64, [4])])
def test_regions_are_encoded_in_batches(clip, batch, sizes):
    whole, _ = MaskedRegions(**clip)(picture(), masks(*BOXES))
    with mock.patch.object(DenseTower, "encode", autospec=True, side_effect=DenseTower.encode) as encode:
        parts, _ = MaskedRegions(**clip, batch=batch)(picture(), masks(*BOXES))
    assert [len(call.args[1]) for call in encode.call_args_list] == sizes
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)


def test_no_region_at_all(clip):
    embeddings, found = MaskedRegions(**clip)(picture(), masks((0, 0, 0, 0), (0, 0, 0, 0)))
    assert embeddings.shape == (0, DIM) and found.tolist() == [False, False]


def test_images_normalised_for_another_network_are_brought_back(clip):
    """0..255 -> ImageNet's mean and deviation -> CLIP's."""
    grey = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(1)) * 255
    imagenet = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    clips = {"mean": [127.0, 60.0, 200.0], "std": [50.0, 60.0, 70.0]}
    given, direct = (
        (grey - torch.tensor(numbers["mean"])[:, None, None]) / torch.tensor(numbers["std"])[:, None, None]
        for numbers in (imagenet, clips)
    )
    wanted = {f"clip_{key}": value for key, value in clips.items()}
    found, _ = MaskedRegions(**clip, **imagenet, **wanted)(given, masks(*BOXES))
    expected, _ = MaskedRegions(**clip)(direct, masks(*BOXES))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(found, MaskedRegions(**clip, **imagenet)(given, masks(*BOXES))[0], atol=1e-2)


@pytest.mark.parametrize("threshold", [0.5, 0.95])
def test_the_threshold_decides_what_is_inside(clip, threshold):
    _, found = MaskedRegions(**clip, threshold=threshold)(picture(), masks(BOXES[0]))
    assert found.tolist() == [threshold == 0.5]


def test_embeddings_are_float32_under_autocast_and_carry_no_graph(clip):
    image = picture().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings, _ = MaskedRegions(**clip)(image, masks(*BOXES))
    exact, _ = MaskedRegions(**clip)(picture(), masks(*BOXES))
    assert embeddings.dtype == torch.float32 and not embeddings.requires_grad
    torch.testing.assert_close(embeddings, exact)


def test_copies_find_the_tower_again(clip):
    regions = MaskedRegions(**clip)
    expected, _ = regions(picture(), masks(*BOXES))
    file = pickle.dumps(regions)
    assert len(file) < 5000  # a key, and no tower
    for twin in (copy.deepcopy(regions), pickle.loads(file)):
        torch.testing.assert_close(twin(picture(), masks(*BOXES))[0], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": [1.0] * 3}, "`mean` and `std` of MaskedRegions must be given together"),
        ({"threshold": 1.0}, r"`threshold` of MaskedRegions must be in \[0, 1\)\. Got 1\.0"),
        ({"batch": 0}, r"`batch` of MaskedRegions must be at least 1\. Got 0"),
    ],
)
def test_refusals(clip, arguments, message):
    with pytest.raises(ValueError, match=message):
        MaskedRegions(**clip, **arguments)
