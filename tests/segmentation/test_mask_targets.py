"""Unlabelled pixels: outside of every mask, as the hosts have it, or out of the losses altogether."""

import math

import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from mmseg.models.assigners import HungarianAssigner
from mmseg.models.utils import get_uncertain_point_coords_with_randomness
from mmseg.structures import SegDataSample
from mmseg.utils import seg_data_to_instance_data
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from subpt_dense.segmentation.mask_targets import (
    UNLABELLED,
    LabelledMatcher,
    is_labelled,
    mask_instances,
    place_weights,
    set_aside,
    uncertain_points,
)
from tests.segmentation.san_model import DIM, QUERIES, build_san, pictures, write_vit_clip
from tests.segmentation.two_stage_model import QUERIES as PROPOSALS
from tests.segmentation.two_stage_model import build_head

SIDE, IGNORED = 16, 255


def sample(target: torch.Tensor) -> SegDataSample:
    found = SegDataSample(metainfo={"img_shape": tuple(target.shape[-2:])})
    found.gt_sem_seg = PixelData(data=target)
    return found


def scene(ignored: bool = True, empty: bool = False) -> list[SegDataSample]:
    """Two images in bands of classes 0 and 1, the right half of the first ignored; all of the second if ``empty``."""
    target = torch.zeros(1, SIDE, SIDE, dtype=torch.long)
    target[:, SIDE // 2 :] = 1
    first, second = target.clone(), target.clone()
    if ignored:
        first[..., SIDE // 2 :] = IGNORED
    if empty:
        second.fill_(IGNORED)
    return [sample(first), sample(second)]


# ---- masks and points ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("floating", [False, True])
def test_masks_are_the_hosts_unless_marked(floating):
    samples = scene(empty=True)
    for ours, theirs in zip(
        mask_instances(samples, IGNORED, mark=False, floating=floating),
        seg_data_to_instance_data(IGNORED, samples),
        strict=True,
    ):
        assert torch.equal(ours.labels, theirs.labels) and torch.equal(ours.masks, theirs.masks.to(ours.masks))
        assert ours.masks.shape[1:] == (SIDE, SIDE)
    first, second = mask_instances(samples, IGNORED, mark=True, floating=floating)
    known = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    known[..., : SIDE // 2] = True
    assert torch.equal(is_labelled(first.masks), known)
    assert first.masks[:, :, 0].tolist() == [[1.0] * 8 + [0.0] * 8, [0.0] * 8 + [1.0] * 8]
    assert len(second.labels) == 0 and second.masks.shape == (0, SIDE, SIDE)


@pytest.mark.parametrize("ignore_index", [255, 65535])
def test_any_number_may_be_ignored(ignore_index):
    (found,) = mask_instances([sample(torch.tensor([[[3, ignore_index, 7]]]))], ignore_index, mark=True)
    assert found.labels.tolist() == [3, 7]
    assert found.masks.tolist() == [[[1, UNLABELLED, 0]], [[0, UNLABELLED, 1]]]


SAMPLING = {"num_points": 20, "oversample_ratio": 3.0, "importance_sample_ratio": 0.75}


def test_points_are_the_hosts_where_all_is_labelled():
    logits = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(5)
    ours = uncertain_points(logits, torch.zeros(3, SIDE, SIDE), **SAMPLING)
    torch.manual_seed(5)
    theirs = get_uncertain_point_coords_with_randomness(logits[:, None], None, 20, 3.0, 0.75)
    torch.testing.assert_close(ours, theirs)


def test_doubt_picks_labelled_points():
    """The mask is unsure on the right, where nobody labelled, and sure on the left."""
    logits, targets = torch.zeros(1, SIDE, SIDE), torch.zeros(1, SIDE, SIDE)
    logits[..., : SIDE // 2] = 9.0
    targets[..., SIDE // 2 :] = math.nan
    picked = uncertain_points(logits, targets, **{**SAMPLING, "importance_sample_ratio": 1.0})
    # The interpolation of a point between the halves reaches into the unlabelled one.
    assert picked[..., 0].max() < 0.5
    host = get_uncertain_point_coords_with_randomness(logits[:, None], None, 20, 3.0, 1.0)
    assert host[..., 0].min() > 0.4


def test_set_aside_places_cost_nothing_in_any_loss():
    logits = torch.randn(2, 10, requires_grad=True)
    targets = (torch.rand(2, 10) > 0.5).long()
    targets[:, 3:6] = UNLABELLED
    kept, clean = set_aside(logits, targets)
    cost = binary_cross_entropy_with_logits(kept, clean, reduction="none")
    assert (cost[:, 3:6] == 0).all() and (cost[:, :3] > 0).all()
    assert (kept.sigmoid()[:, 3:6] == 0).all() and (kept.half().sigmoid()[:, 3:6] == 0).all()
    cost.sum().backward()
    assert (logits.grad[:, 3:6] == 0).all() and (logits.grad[:, :3] != 0).all()


def test_weights_make_a_mean_over_labelled_places():
    targets = torch.tensor([[0, 1, UNLABELLED, UNLABELLED], [1, 1, 0, 0], [UNLABELLED] * 4])
    assert place_weights(targets).tolist() == [[2, 2, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]


# ---- matching --------------------------------------------------------------------------------------------------------


def matcher() -> HungarianAssigner:
    costs = [
        {"type": "CrossEntropyLossCost", "weight": 5.0, "use_sigmoid": True},
        {"type": "DiceCost", "weight": 5.0, "pred_act": True, "eps": 1.0},
    ]
    return HungarianAssigner(costs)


@pytest.mark.parametrize(("wrapped", "query"), [(False, 1), (True, 0)])
def test_unlabelled_places_decide_matches_only_as_negatives(wrapped, query):
    """Query 0 has the labelled half right and claims the other one, too; query 1 claims next to nothing."""
    masks = torch.full((2, 1, 16), -9.0)
    masks[0, :, 0:2], masks[0, :, 4:] = 9.0, 9.0
    masks[1, :, 0] = 9.0
    target = torch.full((1, 1, 16), math.nan)
    target[..., :4] = 0.0
    target[..., 0:2] = 1.0
    assigner = LabelledMatcher(matcher()) if wrapped else matcher()
    masks_of = target if wrapped else target.nan_to_num(0)
    queries, _ = assigner.assign(
        InstanceData(scores=torch.zeros(2, 2), masks=masks), InstanceData(labels=torch.tensor([0]), masks=masks_of)
    )
    assert queries.tolist() == [query]


def test_without_one_labelled_place_the_scores_decide():
    costs = [{"type": "ClassificationCost", "weight": 1.0}, {"type": "DiceCost", "pred_act": True, "eps": 1.0}]
    scores = torch.tensor([[0.0, 0.0], [5.0, 0.0]])
    for target in (torch.full((1, 4), math.nan), torch.full((1, 4), UNLABELLED)):
        queries, _ = LabelledMatcher(HungarianAssigner(costs)).assign(
            InstanceData(scores=scores, masks=torch.zeros(2, 4)), InstanceData(labels=torch.tensor([0]), masks=target)
        )
        assert queries.tolist() == [1]


# ---- SAN -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_vit_clip(tmp_path_factory.mktemp("vit_clip"))


def san_losses(clip, head, samples, **options):
    """Losses of given scores and mask logits, of the labels' own size, and the logits with their gradient."""
    model = build_san(clip, **{"decode_head.type": head, "pretrained": None, **options}, init=False)
    generator = torch.Generator().manual_seed(3)
    scores = [torch.randn(2, QUERIES, 3, generator=generator) for _ in range(2)]
    masks = [torch.randn(2, QUERIES, SIDE, SIDE, generator=generator).requires_grad_() for _ in range(2)]
    head = model.decode_head
    ours = options.get("decode_head.ignore_unlabelled", False)
    instances = (
        mask_instances(samples, IGNORED, mark=True, floating=True)
        if ours
        else seg_data_to_instance_data(IGNORED, samples)
    )
    torch.manual_seed(7)
    losses = head.loss_by_feat(scores, masks, instances)
    sum(value for name, value in losses.items() if "mask" in name).backward()
    return losses, masks


ON = {"decode_head.ignore_unlabelled": True}


def test_san_is_the_host_where_all_is_labelled(clip):
    ours, ours_masks = san_losses(clip, "subpt_dense.OVSideAdapterHead", scene(ignored=False), **ON)
    theirs, masks = san_losses(clip, "SideAdapterCLIPHead", scene(ignored=False))
    assert {*ours} == {*theirs} and len(ours) == 6
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)
    for mine, other in zip(ours_masks, masks, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize("on", [False, True])
def test_san_learns_nothing_from_unlabelled_pixels(clip, on):
    losses, layers = san_losses(clip, "subpt_dense.OVSideAdapterHead", scene(), **(ON if on else {}))
    assert all(torch.isfinite(value) for value in losses.values())
    for masks in layers:
        half = masks.grad[0, ..., SIDE // 2 :]
        assert (half == 0).all() if on else (half != 0).any()
        assert (masks.grad[0, ..., : SIDE // 2] != 0).any() and (masks.grad[1, ..., SIDE // 2 :] != 0).any()


@pytest.mark.parametrize("samples", [scene(empty=True), [scene(empty=True)[1]] * 2], ids=["one", "all"])
def test_san_with_images_that_nobody_labelled(clip, samples):
    losses, layers = san_losses(clip, "subpt_dense.OVSideAdapterHead", samples, **ON)
    assert all(torch.isfinite(value) for value in losses.values())
    assert all((masks.grad[1] == 0).all() for masks in layers)


def test_san_trains_with_the_option(clip):
    model = build_san(clip, "ContextPrompt", **ON).train()
    losses = model.loss(*pictures())
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values()) and len(losses) == 6
    assert model.prompt.context.grad.abs().sum() > 0


# ---- MaskFormer ------------------------------------------------------------------------------------------------------


def proposal_losses(head, samples, own=False, width=SIDE):
    """Losses of one layer's scores and mask logits, of the labels' own size, and the logits with their gradient."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(2, PROPOSALS, 3, generator=generator)
    masks = torch.randn(2, PROPOSALS, SIDE, SIDE, generator=generator)[..., :width].clone().requires_grad_()
    if own:
        instances = seg_data_to_instance_data(IGNORED, samples)
        head.num_classes, head.class_weight = 2, [1.0, 1.0, 0.1]
        head.loss_cls.class_weight = head.class_weight
    else:
        head.cls_embed[-1].set_rows(normalize(torch.randn(2, DIM), dim=1))
        head._follow_rows()
        instances = mask_instances(samples, IGNORED, mark=head.ignore_unlabelled)
    losses = head._loss_by_feat_single(scores, masks, instances, [{}, {}])
    (losses[1] + losses[2]).backward()
    return losses, masks.grad


@pytest.mark.parametrize("ignored", [False, True])
def test_maskformer_is_the_host_without_the_option(ignored):
    ours, grad = proposal_losses(build_head(), scene(ignored))
    theirs, other = proposal_losses(build_head(own=True), scene(ignored), own=True)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(grad, other)


def test_maskformer_is_the_host_where_all_is_labelled():
    ours, grad = proposal_losses(build_head(ignore_unlabelled=True), scene(ignored=False))
    theirs, other = proposal_losses(build_head(own=True), scene(ignored=False), own=True)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(grad, other)


@pytest.mark.parametrize("on", [False, True])
def test_maskformer_learns_nothing_from_unlabelled_pixels(on):
    _, grad = proposal_losses(build_head(ignore_unlabelled=on), scene())
    half = grad[0, ..., SIDE // 2 :]
    assert (half == 0).all() if on else (half != 0).any()
    assert (grad[0, ..., : SIDE // 2] != 0).any() and (grad[1, ..., SIDE // 2 :] != 0).any()


def test_maskformer_loses_what_it_would_on_the_labelled_part_alone():
    """The right half of both images is ignored: the host, given the left half only, has the same losses."""
    target = scene(ignored=False)[0].gt_sem_seg.data
    target[..., SIDE // 2 :] = IGNORED
    ours, grad = proposal_losses(build_head(ignore_unlabelled=True), [sample(target)] * 2)
    half = [sample(target[..., : SIDE // 2])] * 2
    theirs, other = proposal_losses(build_head(own=True), half, own=True, width=SIDE // 2)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(grad[..., : SIDE // 2], other)


@pytest.mark.parametrize("on", [False, True])
def test_maskformer_with_images_that_nobody_labelled(on):
    for samples in (scene(empty=True), [scene(empty=True)[1]] * 2):
        losses, grad = proposal_losses(build_head(ignore_unlabelled=on), samples)
        assert all(torch.isfinite(value) for value in losses) and (grad[1] == 0).all()
