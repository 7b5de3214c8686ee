"""Windows in batches give mmseg's numbers."""

import pytest
import torch
from mmseg.models.segmentors import EncoderDecoder

from subpt_dense.segmentation.slide import slide_logits, windows
from tests.segmentation.dense_model import batch, build_segmentor

SLIDES = [
    ((64, 96), (32, 32), (16, 16)),
    ((64, 96), (48, 32), (32, 32)),  # the last windows are moved inside
    ((64, 96), (128, 128), (64, 64)),  # one window, smaller than asked for
    ((64, 96), (32, 112), (32, 64)),
    ((32, 32), (32, 32), (32, 32)),
]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("size", "crop", "stride"), SLIDES, ids=str)
def test_equals_mmseg_s(dense_clip, size, crop, stride, count):
    images, samples = batch(count, size)
    cfg = {"mode": "slide", "crop_size": crop, "stride": stride}
    model = build_segmentor(dense_clip, test_cfg={**cfg, "batch": 4}).eval()
    model.hand_out_rows()
    metas = [sample.metainfo for sample in samples]
    with torch.no_grad():
        found = model.slide_inference(images, [dict(meta) for meta in metas])
        expected = EncoderDecoder.slide_inference(model, images, [dict(meta) for meta in metas])
    assert found.shape == (count, 4, *size)
    torch.testing.assert_close(found, expected, atol=1e-6 * expected.abs().max().item(), rtol=1e-6)


def test_windows_go_through_in_batches():
    seen = []

    def classify(crops, of):
        seen.append((len(crops), list(of)))
        return crops[:, :2]

    images = torch.randn(2, 3, 8, 8)
    found = slide_logits(images, classify, crop=(4, 4), stride=(4, 4), batch=3)
    torch.testing.assert_close(found, images[:, :2])
    assert [count for count, _ in seen] == [3, 3, 2] and sum((of for _, of in seen), []) == [0, 1] * 4


def test_every_pixel_has_the_mean_of_its_windows():
    def classify(crops, of):
        return crops.mean((2, 3), keepdim=True).expand_as(crops)

    images = torch.arange(10.0).expand(1, 1, 2, 10)
    found = slide_logits(images, classify, crop=(2, 6), stride=(2, 4), batch=8)
    means = [images[0, 0, 0, :6].mean(), images[0, 0, 0, 4:].mean()]
    expected = torch.tensor([means[0]] * 4 + [sum(means) / 2] * 2 + [means[1]] * 4)
    torch.testing.assert_close(found[0, 0, 1], expected)


def test_corners():
    assert windows((4, 10), (4, 4), (4, 3)) == [(0, 0), (0, 3), (0, 6)]
    assert windows((4, 9), (4, 4), (4, 3)) == [(0, 0), (0, 3), (0, 5)]
    assert windows((3, 3), (4, 4), (4, 3)) == [(0, 0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "`batch` of sliding windows must be at least 1. Got 0"),
        ({"stride": (0, 4)}, r"`stride` of sliding windows must be two positive numbers. Got \(0, 4\)"),
        ({"crop": (4,)}, r"`crop_size` of sliding windows must be two positive numbers. Got \(4,\)"),
        ({"stride": (4, 5)}, r"must be at most `crop_size` \(4, 4\), or pixels would be left out. Got \(4, 5\)"),
    ],
)
def test_windows_that_cannot_be_are_refused(options, message):
    asked = {"crop": (4, 4), "stride": (4, 4), "batch": 2, **options}
    with pytest.raises(ValueError, match=message):
        slide_logits(torch.zeros(1, 3, 8, 8), lambda crops, of: crops, **asked)
