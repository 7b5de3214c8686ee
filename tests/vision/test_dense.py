"""Dense features against open_clip's own tokens, and every published mode against its formula written out."""

import copy

import open_clip
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, layer_norm, linear

from subpt_dense.vision import PUBLISHED_MODES, DenseMode, DenseTower, get_dense_tower, load_dense_tower
from subpt_dense.vision.digest import weights_digest
from tests.vision.image_clips import pictures, write_image_clip

#: Per kind: pixels a cell, D.
KINDS = {"transformer": (16, 24), "resnet": (32, 24), "convnext": (32, 24), "toy": (8, 64)}


def load_clip(files: dict[str, str]) -> nn.Module:
    """The same weights in open_clip's own hands."""
    return open_clip.create_model(files["model"], pretrained=files["pretrained"]).eval()


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def tower(image_clips, kind) -> DenseTower:
    return get_dense_tower(load_dense_tower(**image_clips[kind]), "cpu")


@pytest.fixture(scope="module")
def clip(image_clips, kind) -> nn.Module:
    return load_clip(image_clips[kind])


@pytest.fixture(scope="module")
def vit(image_clips) -> DenseTower:
    return get_dense_tower(load_dense_tower(**image_clips["transformer"]), "cpu")


@pytest.fixture(scope="module")
def vit_clip(image_clips) -> nn.Module:
    return load_clip(image_clips["transformer"])


# ---- CLIP's own tokens -----------------------------------------------------------------------------------------------


def test_vanilla_tokens_are_open_clip_s(vit, vit_clip):
    images = pictures(3)
    found = vit.dense(images, DenseMode("vanilla", residual=True, mlp=True))
    visual = vit_clip.visual
    with torch.no_grad():
        (last,) = visual.forward_intermediates(images, indices=1, intermediates_only=True)["image_intermediates"]
        expected = visual.ln_post(last.permute(0, 2, 3, 1)) @ visual.proj
    assert found.shape == (3, 24, 4, 4)
    torch.testing.assert_close(found, expected.permute(0, 3, 1, 2), atol=1e-5, rtol=0)


def test_the_class_token_is_the_image_embedding(vit, vit_clip):
    images = pictures(3)
    with torch.no_grad():
        expected = vit_clip.encode_image(images)
        pooled = vit._dense.tokens(images, DenseMode())[:, 0]
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=0)


def test_encode_is_the_image_embedding(tower, clip):
    images = pictures(2, tower.size)
    with torch.no_grad():
        torch.testing.assert_close(tower.encode(images), clip.encode_image(images), atol=1e-5, rtol=1e-5)
    assert tower.encode(images[:0]).shape == (0, tower.embed_dim)


def test_layer_scale_and_no_pre_norm(tmp_path):
    files = write_image_clip(tmp_path, "transformer", ls_init_value=0.5, no_ln_pre=True)
    images, visual = pictures(2), load_clip(files).visual
    found = get_dense_tower(load_dense_tower(**files), "cpu").dense(images)
    with torch.no_grad():
        (last,) = visual.forward_intermediates(images, indices=1, intermediates_only=True)["image_intermediates"]
        expected = visual.ln_post(last.permute(0, 2, 3, 1)) @ visual.proj
    torch.testing.assert_close(found, expected.permute(0, 3, 1, 2), atol=1e-5, rtol=0)


# ---- published modes, from the raw weights ---------------------------------------------------------------------------


def before_last(visual: nn.Module, images: Tensor) -> Tensor:
    """What enters the last block, class token included."""
    seen: list[Tensor] = []
    handle = visual.transformer.resblocks[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    visual(images)
    handle.remove()
    return seen[0]


def written_out(visual: nn.Module, images: Tensor, name: str) -> Tensor:
    """The dense features of a published method ``[B, D, h, w]``, head by head, with matrices of attention."""
    x, block = before_last(visual, images), visual.transformer.resblocks[-1]
    attn, heads = block.attn, block.attn.num_heads
    width = x.shape[-1]
    size = width // heads
    normed = layer_norm(x, (width,), block.ln_1.weight, block.ln_1.bias, 1e-5)
    q, k, v = (
        linear(normed, w, b) for w, b in zip(attn.in_proj_weight.chunk(3), attn.in_proj_bias.chunk(3), strict=True)
    )
    outputs = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        own = {"q": q[..., part], "k": k[..., part]}
        sim = {a: torch.softmax(own[a] @ own[a].mT / size**0.5, dim=-1) for a in own}
        weights = {
            "maskclip": torch.eye(x.shape[1]).expand(len(x), -1, -1),
            "clearclip": sim["q"],
            "sclip": sim["q"] + sim["k"],
            "clip": torch.softmax(own["q"] @ own["k"].mT / size**0.5, dim=-1),
        }[name]
        outputs.append(weights @ v[..., part])
    y = linear(torch.cat(outputs, dim=-1), attn.out_proj.weight, attn.out_proj.bias)
    if name in ("clip", "sclip"):
        y = x + y
        inner = linear(layer_norm(y, (width,), block.ln_2.weight, block.ln_2.bias, 1e-5), *block.mlp.c_fc.parameters())
        y = y + linear(inner * torch.sigmoid(1.702 * inner), *block.mlp.c_proj.parameters())
    y = layer_norm(y, (width,), visual.ln_post.weight, visual.ln_post.bias, 1e-5) @ visual.proj
    side = int((y.shape[1] - 1) ** 0.5)
    return y[:, 1:].mT.unflatten(-1, (side, side))


@pytest.mark.parametrize("name", PUBLISHED_MODES)
def test_a_published_mode_is_its_formula(vit, vit_clip, name):
    images = pictures(2)
    with torch.no_grad():
        expected = written_out(vit_clip.visual, images, name)
    torch.testing.assert_close(vit.dense(images, PUBLISHED_MODES[name]), expected, atol=1e-5, rtol=0)


def test_modes_differ(vit):
    images = pictures(1)
    modes = [
        DenseMode(a, r, m) for a in ("vanilla", "value", "qq", "csa") for r in (True, False) for m in (True, False)
    ]
    found = torch.stack([vit.dense(images, mode).flatten() for mode in modes])
    distances = torch.cdist(found, found) + 1e9 * torch.eye(len(modes))
    assert distances.min() > 1e-2


def test_resnet_is_maskclip_s(image_clips):
    files = image_clips["resnet"]
    images, visual = pictures(2, 96, 64), load_clip(files).visual
    pool = visual.attnpool
    with torch.no_grad():
        last = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images)))))
        weights = pool.c_proj.weight @ pool.v_proj.weight  # two 1x1 convolutions are one
        bias = pool.c_proj.weight @ pool.v_proj.bias + pool.c_proj.bias
        expected = torch.nn.functional.conv2d(last, weights[:, :, None, None], bias)
    found = get_dense_tower(load_dense_tower(**files), "cpu").dense(images)
    assert found.shape == (2, 24, 3, 2)
    torch.testing.assert_close(found, expected, atol=1e-4 * expected.abs().max().item(), rtol=1e-4)


def test_the_toy_tower_s_cells_average_to_the_image_embedding(image_clips):
    images, clip = pictures(3), load_clip(image_clips["toy"])
    found = get_dense_tower(load_dense_tower(**image_clips["toy"]), "cpu").dense(images)
    with torch.no_grad():
        expected = clip.encode_image(images)
    torch.testing.assert_close(found.mean((2, 3)), expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-5)


def test_convnext_cells_go_through_the_head_one_by_one(image_clips):
    images, visual = pictures(2), load_clip(image_clips["convnext"]).visual
    found = get_dense_tower(load_dense_tower(**image_clips["convnext"]), "cpu").dense(images)
    with torch.no_grad():
        last = visual.trunk.forward_features(images)
        for row, column in ((0, 0), (1, 0), (0, 1)):
            cell = visual.head(visual.trunk.forward_head(last[:, :, row : row + 1, column : column + 1]))
            torch.testing.assert_close(found[:, :, row, column], cell, atol=1e-5, rtol=1e-5)


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 128), (96, 32)])
def test_any_multiple_of_the_stride(tower, kind, height, width):
    stride, dim = KINDS[kind]
    assert tower.stride == stride and tower.embed_dim == dim
    found = tower.dense(pictures(2, height, width))
    assert found.shape == (2, dim, height // stride, width // stride) and torch.isfinite(found).all()


def test_another_grid_has_interpolated_positions(vit, vit_clip):
    """A tower whose own grid is the larger one, with the positions put in by hand."""
    images, visual = pictures(2, 96, 32), copy.deepcopy(vit_clip.visual)
    known = visual.positional_embedding
    cells = known[1:].T.reshape(1, -1, 4, 4)
    cells = interpolate(cells, size=(6, 2), mode="bicubic", align_corners=False).flatten(2)[0].T
    visual.positional_embedding = nn.Parameter(torch.cat([known[:1], cells]))
    with torch.no_grad():
        (last,) = visual.forward_intermediates(images, indices=1, intermediates_only=True)["image_intermediates"]
        expected = visual.ln_post(last.permute(0, 2, 3, 1)) @ visual.proj
    torch.testing.assert_close(vit.dense(images), expected.permute(0, 3, 1, 2), atol=1e-5, rtol=0)


def test_no_images(tower):
    assert tower.dense(pictures(0)).shape[:2] == (0, tower.embed_dim)


@pytest.mark.parametrize("shape", [(1, 3, 65, 64), (1, 3, 64, 12), (1, 3, 0, 64), (1, 4, 64, 64), (3, 64, 64)], ids=str)
def test_other_shapes_are_refused(tower, kind, shape):
    message = rf"H and W multiples of {KINDS[kind][0]}\. Got \[{', '.join(map(str, shape))}\]: set the data prep"
    with pytest.raises(ValueError, match=message):
        tower.dense(torch.zeros(shape))


# ---- modes -----------------------------------------------------------------------------------------------------------


def test_unknown_attention_is_refused():
    with pytest.raises(ValueError, match="must be one of 'vanilla', 'value', 'qq', 'csa'. Got 'kk'"):
        DenseMode("kk")


def test_a_convolutional_tower_has_no_modes(tower, kind):
    if kind == "transformer":
        assert tower.check_mode(None) == DenseMode() and tower.check_mode(DenseMode("qq")) == DenseMode("qq")
        return
    assert tower.check_mode(None) is None
    with pytest.raises(ValueError, match="has one way to be read cell by cell. Got DenseMode.attention='qq'"):
        tower.dense(pictures(1), DenseMode("qq"))


# ---- frozen ----------------------------------------------------------------------------------------------------------


def test_no_graph_and_no_training_mode(tower):
    images = pictures(2).requires_grad_()
    assert tower.dense(images).grad_fn is None
    assert not any(parameter.requires_grad for parameter in tower._visual.parameters())
    assert not any(module.training for module in tower._visual.modules())
    tower.dense(pictures(2) + 3)
    assert weights_digest(tower._visual) == tower.weights_hash


def test_a_copy_is_independent(tower):
    twin, images = tower.copy_to(torch.device("cpu")), pictures(1)
    expected = tower.dense(images)
    assert torch.equal(twin.dense(images), expected)
    with torch.no_grad():
        for parameter in twin._visual.parameters():
            parameter.zero_()
    assert not torch.equal(twin.dense(images), expected) and torch.equal(tower.dense(images), expected)


def test_half_precision_is_near(tower):
    images = pictures(1)
    expected = tower.dense(images).flatten()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = tower.dense(images).float().flatten()
    assert torch.cosine_similarity(found, expected, dim=0) > 0.98 and not torch.equal(found, expected)


@pytest.mark.parametrize(
    ("vision", "message"),
    [({"attentional_pool": True}, "an attentional pool"), ({"qk_norm": True}, "CustomResidualAttentionBlock")],
    ids=str,
)
def test_other_transformers_are_refused(tmp_path, vision, message):
    with pytest.raises(ValueError, match=f"read patch by patch must have .*{message}"):
        load_dense_tower(**write_image_clip(tmp_path, "transformer", **vision))


def test_timm_transformers_are_refused(tmp_path):
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "avg", "image_size": 224}
    with pytest.raises(ValueError, match="must end in a map, as a convolutional network does"):
        load_dense_tower(**write_image_clip(tmp_path, "convnext", **vision))
