"""The frozen trunk gives CLIP's own numbers, map by map and region by region, and nothing can change it."""

import copy
import io
import pickle

import open_clip
import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import load_state_dict
from torch.nn.functional import normalize

from subpt_dense.detection import FrozenCLIPBackbone, frozen_trunk, vlm_pool
from subpt_dense.detection.frozen_trunk import get_trunk, load_trunk
from subpt_dense.detection.vlm_pool import RegionMap
from subpt_dense.registry import MODELS
from subpt_dense.toyworld import MODEL_NAME
from tests.detection.fvlm_model import write_conv_clip

KINDS = ("resnet", "convnext", "toy")
#: Per kind: channels and strides of the stages asked for, by default the last four.
STAGES = {
    "resnet": [(32, 4), (64, 8), (128, 16), (256, 32)],
    "convnext": [(40, 4), (80, 8), (160, 16), (320, 32)],
    "toy": [(24, 2), (48, 4), (128, 8)],
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory, toy_clip) -> dict[str, dict[str, str]]:
    made = {kind: write_conv_clip(tmp_path_factory.mktemp(kind), kind) for kind in ("resnet", "convnext")}
    return made | {"toy": {"model": MODEL_NAME, "pretrained": str(toy_clip)}}


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def backbone(clips, kind) -> FrozenCLIPBackbone:
    stages = {"out_indices": [0, 1, -1]} if kind == "toy" else {}
    return MODELS.build({"type": "subpt_dense.FrozenCLIPBackbone", **clips[kind], **stages})


@pytest.fixture(scope="module")
def clip(clips, kind) -> torch.nn.Module:
    """The same weights in open_clip's own hands."""
    model, pretrained = clips[kind].values()
    return open_clip.create_model(model, pretrained=pretrained).eval()


def side_of(clip) -> int:
    size = clip.visual.image_size
    return size[0] if isinstance(size, tuple) else size


def pictures(count: int, height: int, width: int | None = None) -> torch.Tensor:
    return torch.randn(count, 3, height, width or height, generator=torch.Generator().manual_seed(0))


def regions_of(backbone: FrozenCLIPBackbone, images: torch.Tensor) -> RegionMap:
    backbone(images)
    regions = backbone.take_regions()
    assert regions is not None
    return regions


# ---- CLIP's own numbers ----------------------------------------------------------------------------------------------


def test_maps_are_open_clip_s(backbone, clip, kind):
    images = pictures(2, side_of(clip))
    maps = backbone(images)
    with torch.no_grad():
        expected = clip.visual.forward_intermediates(images, intermediates_only=True)["image_intermediates"]
    for found, wanted, (channels, stride) in zip(maps, expected[-len(maps) :], STAGES[kind], strict=True):
        assert found.shape == (2, channels, side_of(clip) // stride, side_of(clip) // stride)
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(64, 160), (256, 32)])
def test_any_size(backbone, kind, height, width):
    maps = backbone(pictures(1, height, width))
    assert [tuple(found.shape[2:]) for found in maps] == [(height // s, width // s) for _, s in STAGES[kind]]


def test_the_pooled_last_map_is_the_image_embedding(backbone, clip):
    images = pictures(2, side_of(clip))
    regions = regions_of(backbone, images)
    with torch.no_grad():
        expected = clip.encode_image(images)
    found = regions.trunk.pool(regions.last)
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-5)


def test_the_whole_image_as_a_region_is_the_image_embedding(backbone, clip):
    side = side_of(clip)
    images = pictures(3, side)
    rois = torch.tensor([[2.0, 0, 0, side, side], [0.0, 0, 0, side, side], [1.0, 0, 0, side, side]])
    found = regions_of(backbone, images).embed(rois)
    with torch.no_grad():
        expected = normalize(clip.encode_image(images), dim=1)[[2, 0, 1]]
    assert found.shape == (3, backbone_dim(clip)) and found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def backbone_dim(clip) -> int:
    with torch.no_grad():
        return clip.encode_image(pictures(1, side_of(clip))).shape[1]


def test_a_box_of_whole_cells_takes_those_cells(backbone, clip):
    """In an image three towers wide, the middle third's cells go into the pool as they are, nothing in between."""
    side = side_of(clip)
    regions = regions_of(backbone, pictures(1, side, 3 * side))
    grid = regions.trunk.grid
    found = regions.embed(torch.tensor([[0.0, side, 0, 2 * side, side]]))
    expected = regions.trunk.pool(regions.last[:, :, :, grid : 2 * grid].contiguous())
    torch.testing.assert_close(found, normalize(expected, dim=1), atol=1e-5, rtol=0)


def test_a_large_box_averages_what_it_covers(backbone, clip):
    """Twice the tower's size: every bin is the mean of its 2 x 2 cells, as four samples at half-pixel centres give."""
    side = side_of(clip)
    regions = regions_of(backbone, pictures(1, 2 * side))
    found = regions.embed(torch.tensor([[0.0, 0, 0, 2 * side, 2 * side]]))
    expected = regions.trunk.pool(torch.nn.functional.avg_pool2d(regions.last.contiguous(), 2))
    torch.testing.assert_close(found, normalize(expected, dim=1), atol=1e-5, rtol=0)


def test_in_parts_as_at_once(backbone, monkeypatch):
    regions = regions_of(backbone, pictures(2, 128))
    corners = torch.rand(7, 2, generator=torch.Generator().manual_seed(1)) * 60
    rois = torch.cat([torch.tensor([[0.0], [1]]).repeat(4, 1)[:7], corners, corners + 40], dim=1)
    at_once = regions.embed(rois)
    monkeypatch.setattr(vlm_pool, "_AT_ONCE", 1)
    torch.testing.assert_close(regions.embed(rois), at_once, atol=1e-6, rtol=0)
    torch.testing.assert_close(at_once.norm(dim=1), torch.ones(7))


def test_no_regions_and_boxes_without_area(backbone):
    regions = regions_of(backbone, pictures(1, 64))
    assert regions.embed(torch.zeros(0, 5)).shape == (0, regions.trunk.embed_dim)
    assert torch.isfinite(regions.embed(torch.tensor([[0.0, 8, 8, 8, 8]]))).all()


def test_the_background_s_row(backbone, clip, kind):
    tokens = open_clip.get_tokenizer(backbone.key.spec.model)(["background"])
    with torch.no_grad():
        expected = clip.encode_text(tokens, normalize=True)[0]
    trunk = get_trunk(backbone.key, "cpu")
    torch.testing.assert_close(trunk.background, expected, atol=1e-5, rtol=0)


def test_half_precision_maps_and_whole_embeddings(backbone, clip):
    side = side_of(clip)
    images, rois = pictures(1, side), torch.tensor([[0.0, 0, 0, side, side]])
    expected = regions_of(backbone, images).embed(rois)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = backbone(images)
        regions = backbone.take_regions()
        found = regions.embed(rois.bfloat16())
    # ConvNeXt ends each stage with a sum that autocast leaves wide; its convolutions are narrow all the same.
    assert {found.dtype for found in maps} <= {torch.bfloat16, torch.float32}
    assert found.dtype == torch.float32
    assert (found * expected).sum() > 0.99 and not torch.equal(found, expected)


# ---- frozen ----------------------------------------------------------------------------------------------------------


def test_nothing_to_train_and_no_graph(backbone):
    assert [*backbone.parameters()] == [] and [name for name, _ in backbone.named_buffers()] == ["weights_sha256"]
    images = pictures(1, 64).requires_grad_()
    assert all(found.grad_fn is None and not found.requires_grad for found in backbone(images))
    trunk = get_trunk(backbone.key, "cpu")
    assert not any(parameter.requires_grad for parameter in trunk._visual.parameters())


def test_training_mode_changes_nothing(backbone):
    images = pictures(4, 64)
    trunk = get_trunk(backbone.key, "cpu")
    before = backbone.eval()(images)
    backbone.train()
    for seed in range(3):
        backbone(images + seed)
    assert all(torch.equal(a, b) for a, b in zip(before, backbone(images), strict=True))
    assert not any(module.training for module in trunk._visual.modules())
    assert frozen_trunk._digest(trunk._visual) == backbone.key.weights_hash


def test_initialisation_does_not_reach_it(backbone):
    class Host(BaseModule):
        def __init__(self) -> None:
            super().__init__(init_cfg={"type": "Normal", "layer": ["Conv2d", "Linear"], "std": 1.0})
            self.backbone = backbone

    Host().init_weights()
    assert frozen_trunk._digest(get_trunk(backbone.key, "cpu")._visual) == backbone.key.weights_hash


def test_building_it_draws_no_random_numbers(clips, monkeypatch):
    for cache in ("_HASHES", "_TRUNKS"):
        monkeypatch.setattr(frozen_trunk, cache, {})
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    FrozenCLIPBackbone(**clips["resnet"])
    assert torch.equal(torch.rand(1), expected)


def test_a_process_has_one(clips):
    first, second = FrozenCLIPBackbone(**clips["resnet"]), FrozenCLIPBackbone(**clips["resnet"])
    assert get_trunk(first.key, "cpu") is get_trunk(second.key, "cpu")


# ---- copies, files and refusals --------------------------------------------------------------------------------------


def test_copies_and_pickles_carry_a_key(backbone):
    images = pictures(1, 64)
    expected = backbone(images)
    content = pickle.dumps(backbone)
    assert len(content) < 10_000
    for twin in (copy.deepcopy(backbone), pickle.loads(content)):
        assert twin.take_regions() is None
        assert all(torch.equal(a, b) for a, b in zip(twin(images), expected, strict=True))
        assert twin.take_regions() is not None and twin.take_regions() is None
    backbone.take_regions()


def test_a_checkpoint_holds_the_hash_alone(backbone):
    file = io.BytesIO()
    torch.save(backbone.state_dict(), file)
    assert [*backbone.state_dict()] == ["weights_sha256"] and file.tell() < 3000
    assert bytes(backbone.weights_sha256.tolist()).hex() == backbone.key.weights_hash
    assert backbone.half().weights_sha256.dtype == torch.uint8
    backbone.load_state_dict(backbone.state_dict())


def test_a_checkpoint_of_another_trunk_is_refused(clips, tmp_path):
    ours = FrozenCLIPBackbone(**clips["resnet"])
    other = FrozenCLIPBackbone(**write_conv_clip(tmp_path, "resnet", seed=1))
    message = f"SHA-256 {ours.key.weights_hash}.*Got {other.key.weights_hash}"
    with pytest.raises(ValueError, match=message):
        ours.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match=message):  # what the Runner loads with, which forgives almost everything
        load_state_dict(torch.nn.ModuleDict({"backbone": ours}), {"backbone.weights_sha256": other.weights_sha256})


def test_weights_that_changed_on_disk_are_refused(tmp_path, monkeypatch):
    clip = write_conv_clip(tmp_path, "resnet", seed=2)
    key = load_trunk(**clip)
    other = write_conv_clip(tmp_path, "resnet", seed=3)
    with open(other["pretrained"], "rb") as source, open(clip["pretrained"], "wb") as target:
        target.write(source.read())
    assert get_trunk(key, "cpu").weights_hash == key.weights_hash  # this process has seen the first ones
    monkeypatch.setattr(frozen_trunk, "_TRUNKS", {})
    with pytest.raises(RuntimeError, match=f"SHA-256 {key.weights_hash}. Got"):
        get_trunk(key, "cpu")


@pytest.mark.parametrize("indices", [(), (1, 1), (3, 1), (5,), (-6, -1)])
def test_stages_that_do_not_exist(clips, indices):
    with pytest.raises(ValueError, match=r"`out_indices` of FrozenCLIPBackbone must be rising stages in \[-5, 4\]"):
        FrozenCLIPBackbone(**clips["resnet"], out_indices=indices)


@pytest.mark.parametrize("indices", [(0, 4), (2,), (-1,)])
def test_stages_asked_for(clips, indices):
    maps = FrozenCLIPBackbone(**clips["resnet"], out_indices=indices)(pictures(1, 64))
    channels = {0: 8, 2: 64, 4: 256, -1: 256}
    assert [found.shape[1] for found in maps] == [channels[index] for index in indices]


def test_transformers_are_refused(tiny_clip):
    message = f"must have a ModifiedResNet or a convolutional timm network.*Got '{tiny_clip[0]}'"
    with pytest.raises(ValueError, match=message):
        FrozenCLIPBackbone(*tiny_clip)


def test_missing_and_foreign_weights_are_refused(clips, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.pt"):
        FrozenCLIPBackbone(clips["resnet"]["model"], str(tmp_path / "none.pt"))
    with pytest.raises(ValueError, match="does not fit"):
        FrozenCLIPBackbone(clips["resnet"]["model"], clips["convnext"]["pretrained"])
    with pytest.raises(ValueError, match=r"open_clip.list_models\(\)"):
        FrozenCLIPBackbone("RN51", clips["resnet"]["pretrained"])
