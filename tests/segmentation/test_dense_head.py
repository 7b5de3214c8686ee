"""Logits of the dense head against a few lines of algebra, and its place among mmseg's heads."""

import copy

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.nn.functional import cross_entropy, interpolate, normalize

from subpt_dense.heads import hand_out_groups
from subpt_dense.registry import MODELS
from subpt_dense.segmentation import DenseCLIPHead

SEEN = torch.tensor([True, False, True, True])


def make(**options) -> DenseCLIPHead:
    return MODELS.build({"type": "subpt_dense.DenseCLIPHead", "embed_dim": 6, "scale": 20.0, **options})


def features(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 6, 3, 4, generator=torch.Generator().manual_seed(0))


def rows(count: int = 4) -> torch.Tensor:
    return normalize(torch.randn(count, 6, generator=torch.Generator().manual_seed(1)), dim=1)


def samples(labels: torch.Tensor) -> list[SegDataSample]:
    return [SegDataSample(gt_sem_seg=PixelData(data=one[None])) for one in labels]


def test_logits_are_scaled_cosines():
    head, x, w = make(), features(), rows()
    head.set_rows(w)
    expected = 20 * torch.einsum("bdhw,kd->bkhw", x / x.norm(dim=1, keepdim=True), w)
    torch.testing.assert_close(head((x,)), expected, atol=1e-5, rtol=0)
    assert head((x,)).abs().max() <= 20


def test_the_map_asked_for_is_read():
    head, x = make(in_index=0), features()
    head.set_rows(rows())
    assert torch.equal(head((x, x.flip(1))), head((x,)))


def test_nothing_is_learned_and_the_rows_keep_their_graph():
    head, w = make(), rows().requires_grad_()
    assert [*head.parameters()] == [] and head.state_dict() == {}
    head.set_rows(w)
    head((features(),)).square().mean().backward()
    assert w.grad.abs().sum() > 0


def test_the_loss_ignores_255_and_averages_over_the_rest():
    head, x, w = make(), features(), rows().requires_grad_()
    head.set_rows(w)
    labels = torch.randint(0, 4, (2, 12, 16), generator=torch.Generator().manual_seed(2))
    labels[0, :, 8:] = 255
    losses = head.loss((x,), samples(labels), {})
    logits = interpolate(head((x,)), size=(12, 16), mode="bilinear", align_corners=False)
    expected = cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(losses["loss_ce"], expected)
    known = labels != 255
    accuracy = (logits.argmax(1) == labels)[known].float().mean() * 100
    torch.testing.assert_close(losses["acc_seg"].squeeze(), accuracy, atol=1e-3, rtol=0)


def test_a_batch_without_labels_costs_nothing():
    head, w = make(), rows().requires_grad_()
    head.set_rows(w)
    loss = head.loss((features(),), samples(torch.full((2, 12, 16), 255)), {})["loss_ce"]
    loss.backward()
    assert loss.item() == 0 and w.grad.abs().sum() == 0


def test_predictions_have_the_image_s_size():
    head = make()
    head.set_rows(rows())
    metas = [{"img_shape": (30, 40), "pad_shape": (36, 48)}] * 2
    assert head.predict((features(),), metas, {}).shape == (2, 4, 36, 48)


def test_gamma_is_for_seen_classes_in_testing():
    plain, head, x = make(), make(gamma=1.5), features()
    for one in (plain, head):
        one.set_rows(rows())
    hand_out_groups(head, ["a", "b", "c", "d"], ["a", "c", "d", "other"])
    expected = plain((x,))
    assert torch.equal(head.train()((x,)), expected)
    torch.testing.assert_close(head.eval()((x,)), expected - 1.5 * SEEN[:, None, None], atol=1e-5, rtol=0)
    head.gamma = 0.0
    assert torch.equal(head((x,)), expected)


@pytest.mark.parametrize("groups", [None, SEEN[:3]], ids=["none", "three"])
def test_gamma_without_groups_is_refused(groups):
    head = make(gamma=1.0).eval()
    head.set_rows(rows())
    if groups is not None:
        head.set_groups(groups)
    got = "none" if groups is None else "groups of 3"
    with pytest.raises(RuntimeError, match=f"which of the 4 classes are seen. Got {got}: call `set_groups"):
        head((features(),))


def test_half_precision_features_have_whole_logits():
    head = make()
    head.set_rows(rows())
    expected = head((features(),))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head((features(),))
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_a_copy_starts_without_rows():
    head = make()
    head.set_rows(rows().requires_grad_() * 1)
    assert copy.deepcopy(head).rows is None and head.rows is not None
    head.set_rows(None)
    with pytest.raises(RuntimeError, match="DenseCLIPHead has no rows to classify with"):
        head((features(),))


def test_other_rows_and_numbers_are_refused():
    with pytest.raises(ValueError, match=r"`rows` of DenseCLIPHead must have shape \[K, 6\], K >= 1. Got \[4, 5\]"):
        make().set_rows(torch.zeros(4, 5))
    with pytest.raises(TypeError, match="`base` of DenseCLIPHead must be a bool tensor"):
        make().set_groups(torch.zeros(4))
    for key, value in (("embed_dim", 0), ("scale", -1.0)):
        with pytest.raises(ValueError, match=f"`{key}` of DenseCLIPHead must be positive. Got {value}"):
            make(**{key: value})
    head = make(scale=None)
    head.set_rows(rows())
    with pytest.raises(RuntimeError, match="`scale` of DenseCLIPHead must be given"):
        head((features(),))


def test_several_losses():
    losses = [{"type": "mmseg.CrossEntropyLoss", "loss_weight": 2.0}, {"type": "mmseg.DiceLoss"}]
    head = make(loss_decode=losses)
    head.num_classes = head.out_channels = 4
    head.set_rows(rows())
    found = head.loss((features(),), samples(torch.randint(0, 4, (2, 12, 16))), {})
    assert {*found} == {"loss_ce", "loss_dice", "acc_seg"}
