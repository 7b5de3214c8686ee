"""Proposals named twice: by their queries, and by what a frozen CLIP sees in their regions."""

import copy

import pytest
import torch
from torch.nn.functional import interpolate, normalize

from subpt_dense.registry import MODELS
from subpt_dense.segmentation import ProposalCLIPHead
from subpt_dense.segmentation.masked_regions import MaskedRegions
from tests.segmentation.san_model import ALL, DIM, SEEN, pictures, write_vit_clip
from tests.segmentation.two_stage_model import QUERIES, build_head, build_two_stage, segmentor_config

LOSSES = {f"decode.{layer}{name}" for layer in ("", "d0.") for name in ("loss_cls", "loss_mask", "loss_dice")}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_vit_clip(tmp_path_factory.mktemp("vit_clip"))


def total(losses) -> torch.Tensor:
    return sum(value for name, value in losses.items() if "loss" in name)


@pytest.mark.parametrize("ignore_unlabelled", [False, True])
def test_training_reaches_the_context(clip, ignore_unlabelled):
    model = build_two_stage(clip, "ContextPrompt", ignore_unlabelled=ignore_unlabelled).train()
    losses = model.loss(*pictures())
    assert {*losses} == LOSSES
    assert all(torch.isfinite(value) for value in losses.values())
    total(losses).backward()
    assert model.prompt.context.grad.abs().sum() > 0
    idle = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert idle == []


@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_prediction_in_a_changed_vocabulary(clip, mode):
    model = build_two_stage(clip, "ContextPrompt").train()
    model.loss(*pictures())
    model.eval().set_vocabulary(ALL, base=SEEN)
    if mode == "slide":
        model.test_cfg = {"mode": "slide", "crop_size": (64, 64), "stride": (32, 32), "batch": 2}
        model.test_cfg = type(model.decode_head.train_cfg)(model.test_cfg)
    with torch.no_grad():
        samples = model.predict(*pictures(side=96))
    assert [tuple(sample.seg_logits.data.shape) for sample in samples] == [(3, 96, 96)] * 2
    assert samples[0].pred_sem_seg.data.unique().max() < 3
    model.train().set_vocabulary(SEEN)
    assert {*model.loss(*pictures())} == LOSSES


def test_regions_of_another_clip_are_refused(clip, tmp_path):
    config = segmentor_config(clip)
    config.decode_head.regions.update(write_vit_clip(tmp_path, seed=5))
    with pytest.raises(ValueError, match="must give rows of the CLIP of its `decode_head.regions`"):
        MODELS.build(config)


def test_class_counts_follow_the_rows(clip):
    model = build_two_stage(clip)
    head = model.decode_head
    for names in (ALL, SEEN):
        model.set_vocabulary(names)
        model.train().loss(*pictures(labels=tuple(range(len(names)))))
        assert {model.num_classes, model.out_channels, head.num_classes, head.out_channels} == {len(names)}
        assert head.class_weight == head.loss_cls.class_weight == [1.0] * len(names) + [0.1]


def ready(head: ProposalCLIPHead, classes: int = 3) -> torch.Tensor:
    rows = normalize(torch.randn(classes, DIM, generator=torch.Generator().manual_seed(2)), dim=1)
    head.cls_embed[-1].set_rows(rows)
    return rows


def inputs(side: int = 64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = [(2, 8, side // 4, side // 4), (2, 16, side // 8, side // 8), (2, 3, side, side)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def decoded(head, x):
    """Scores and mask probabilities of the last layer, as the head's own decoder gives them."""
    from mmseg.structures import SegDataSample

    *maps, images = x
    size = tuple(images.shape[-2:])
    samples = [SegDataSample(metainfo={"batch_input_shape": size, "img_shape": size}) for _ in images]
    scores, masks = head(maps, samples)
    return scores[-1], interpolate(masks[-1], size, mode="bilinear", align_corners=False).sigmoid()


@pytest.mark.parametrize("groups", [None, [True, False, True]])
def test_scores_are_the_ensemble_of_both_branches(clip, groups):
    """``branch^w * clip^(1 - w)`` on seen classes, the other way round on the others, summed over the masks."""
    head = build_head(clip, seen_weight=0.3, unseen_weight=0.7, **{"regions.threshold": 0.55}).eval()
    rows, x = ready(head), inputs()
    if groups is not None:
        head.set_groups(torch.tensor(groups))
    with torch.no_grad():
        found = head.predict(x, [{"img_shape": (64, 64)}] * 2, {})
        scores, masks = decoded(head, x)
        regions = MaskedRegions(**clip, threshold=0.55)
        counts = []
        for i, image in enumerate(x[-1]):
            branch = scores[i].softmax(-1)[:, :-1]
            embeddings, valid = regions(image, masks[i])
            seen = torch.ones(QUERIES, 3)
            seen[valid] = (embeddings @ rows.T / 0.05).softmax(-1)
            mixed = torch.empty(QUERIES, 3)
            for k in range(3):
                w = 0.7 if groups is not None and groups[k] else 0.3
                mixed[:, k] = branch[:, k] ** w * seen[:, k] ** (1 - w)
            expected = torch.zeros(3, 64, 64)
            for q in range(QUERIES):
                expected += mixed[q][:, None, None] * masks[i, q]
            torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=1e-4)
            counts.append(int(valid.sum()))
    assert sum(counts) > 0


def test_the_proposal_branch_alone_is_maskformers(clip):
    head = build_head().eval()
    ready(head)
    x = inputs()
    with torch.no_grad():
        found = head.predict(x, [{"img_shape": (64, 64)}] * 2, {})
        scores, masks = decoded(head, x)
    expected = torch.einsum("bqk,bqhw->bkhw", scores.softmax(-1)[..., :-1], masks)
    torch.testing.assert_close(found, expected)
    assert head.regions is None


def test_padding_is_no_part_of_a_region(clip):
    """What lies beyond ``img_shape`` changes no class score."""
    head = build_head(clip).eval()
    ready(head)
    x = inputs()
    other = [*x[:-1], x[-1].clone()]
    other[-1][..., 40:] = 7.0
    metas = [{"img_shape": (64, 40)}] * 2
    with torch.no_grad():
        torch.testing.assert_close(head.predict(x, metas, {}), head.predict(other, metas, {}))
        metas = [{"img_shape": (64, 64)}] * 2
        assert not torch.allclose(head.predict(x, metas, {}), head.predict(other, metas, {}))


def test_the_classifier_is_the_rows_and_a_background():
    head = build_head()
    rows = ready(head)
    query = torch.randn(5, 32)
    linear, _, classifier = head.cls_embed
    with torch.no_grad():
        hidden = linear(query).relu()
        embedded = normalize(classifier.projection(hidden), dim=1)
        expected = (
            torch.cat([embedded @ rows.T, (embedded @ normalize(classifier.background, dim=0))[:, None]], 1) / 0.05
        )
        torch.testing.assert_close(head.cls_embed(query), expected)


def test_the_checkpoint_knows_no_vocabulary_and_no_tower(clip):
    model, wider = build_two_stage(clip, "ContextPrompt"), build_two_stage(clip, "ContextPrompt", vocabulary=ALL)
    model.train().loss(*pictures())
    state = model.state_dict()
    assert {key: value.shape for key, value in state.items()} == {k: v.shape for k, v in wider.state_dict().items()}
    assert not [key for key in state if "resblocks" in key or "rows" in key]
    twin = copy.deepcopy(model)
    assert torch.isfinite(total(twin.loss(*pictures())))
    assert twin.decode_head.regions.key == model.decode_head.regions.key


def test_groups_of_another_vocabulary_are_refused(clip):
    head = build_head(clip).eval()
    ready(head)
    head.set_groups(torch.tensor([True, False]))
    with torch.no_grad(), pytest.raises(ValueError, match=r"each of the 3 classes.*Got 2: call `set_groups"):
        head.predict(inputs(), [{"img_shape": (64, 64)}] * 2, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seen_weight": 1.5}, r"`seen_weight` of ProposalCLIPHead must be in \[0, 1\]\. Got 1\.5"),
        ({"unseen_weight": -1.0}, r"`unseen_weight` of ProposalCLIPHead must be in \[0, 1\]"),
        ({"temperature": 0.0}, "`temperature` of TextClassifier must be positive"),
        ({"embed_dim": 16}, rf"`embed_dim` of ProposalCLIPHead must be that of the CLIP of `regions`, {DIM}\. Got 16"),
        ({"loss_cls.class_weight": [1.0, 2.0, 0.1]}, "must be one number for all classes.*Got 2"),
    ],
)
def test_refusals(clip, options, message):
    with pytest.raises(ValueError, match=message):
        build_head(clip, **options)


@pytest.mark.parametrize("misspelt", ["ignore_unlabeled", "gama", "num_class"])
def test_an_option_that_nobody_reads_is_refused(misspelt):
    with pytest.raises(
        TypeError, match=f"The arguments of ProposalCLIPHead must be .* Got `{misspelt}`, which neither"
    ):
        build_head(**{misspelt: 1})


@pytest.mark.parametrize("index", [[0], [1, 0], -1])
def test_maps_that_are_not_read_as_stated_are_refused(index):
    with pytest.raises(ValueError, match=r"`in_index` of ProposalCLIPHead must be \[0, 1\]: it reads all maps"):
        build_head(in_index=index)


def test_a_head_without_rows_says_so(clip):
    with pytest.raises(RuntimeError, match="TextClassifier has no rows"):
        build_head(clip).predict(inputs(), [{"img_shape": (64, 64)}] * 2, {})


def test_rows_of_another_length_are_refused(clip):
    config = segmentor_config(clip)
    config.decode_head.update(embed_dim=16, regions=None)
    with pytest.raises(ValueError, match=r"rows of the length of `decode_head\.cls_embed\.2`, 16\. Got 24"):
        MODELS.build(config)
