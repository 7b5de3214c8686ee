"""The frozen backbone gives the tower's maps, and nothing can change it."""

import copy
import io
import pickle

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import load_state_dict

from subpt_dense.registry import MODELS
from subpt_dense.segmentation import DenseCLIPBackbone
from subpt_dense.vision import DenseMode, get_dense_tower
from subpt_dense.vision.digest import weights_digest
from tests.vision.image_clips import pictures, write_image_clip


@pytest.fixture(scope="module")
def backbone(dense_clip) -> DenseCLIPBackbone:
    return MODELS.build({"type": "subpt_dense.DenseCLIPBackbone", **dense_clip})


@pytest.mark.parametrize(
    ("switches", "mode"),
    [
        ({}, DenseMode()),
        ({"attention": "qq", "residual": False, "mlp": False}, DenseMode("qq", False, False)),
        ({"attention": "csa"}, DenseMode("csa")),
        ({"mlp": False}, DenseMode(mlp=False)),
    ],
    ids=str,
)
def test_the_map_is_the_tower_s(dense_clip, switches, mode):
    backbone, images = DenseCLIPBackbone(**dense_clip, **switches), pictures(2, 64, 96)
    (found,) = backbone(images)
    assert found.shape == (2, 24, 4, 6) and backbone.mode == mode
    assert torch.equal(found, get_dense_tower(backbone.key, "cpu").dense(images, mode))
    assert backbone.identity()["mode"] == mode.to_dict()


def test_facts(backbone):
    tower = get_dense_tower(backbone.key, "cpu")
    assert (backbone.embed_dim, backbone.stride, backbone.scale) == (24, 16, tower.scale)
    assert backbone.text_hash == tower.text_hash != tower.weights_hash == backbone.identity()["weights_hash"]


def test_a_convolutional_tower_takes_no_switches(tmp_path):
    files = write_image_clip(tmp_path, "resnet")
    backbone = DenseCLIPBackbone(**files)
    assert backbone.mode is None is backbone.identity()["mode"] and backbone.stride == 32
    with pytest.raises(ValueError, match="are for vision transformers: ModifiedResNet has one way"):
        DenseCLIPBackbone(**files, mlp=True)


def test_an_unknown_switch_is_refused(dense_clip):
    with pytest.raises(ValueError, match="must be one of 'vanilla', 'value', 'qq', 'csa'. Got 'kk'"):
        DenseCLIPBackbone(**dense_clip, attention="kk")


def test_nothing_to_train_and_no_graph(backbone):
    assert [*backbone.parameters()] == [] and [name for name, _ in backbone.named_buffers()] == ["weights_sha256"]
    backbone.train()
    assert backbone(pictures(1).requires_grad_())[0].grad_fn is None
    assert not get_dense_tower(backbone.key, "cpu")._visual.training


def test_initialisation_does_not_reach_it(backbone):
    class Host(BaseModule):
        def __init__(self) -> None:
            super().__init__(init_cfg={"type": "Normal", "layer": ["Conv2d", "Linear"], "std": 1.0})
            self.backbone = backbone

    Host().init_weights()
    assert weights_digest(get_dense_tower(backbone.key, "cpu")._visual) == backbone.key.weights_hash


def test_copies_and_pickles_carry_a_key(backbone):
    images = pictures(1)
    content = pickle.dumps(backbone)
    assert len(content) < 10_000
    for twin in (copy.deepcopy(backbone), pickle.loads(content)):
        assert torch.equal(twin(images)[0], backbone(images)[0])


def test_a_checkpoint_holds_the_hash_alone(backbone):
    file = io.BytesIO()
    torch.save(backbone.state_dict(), file)
    assert [*backbone.state_dict()] == ["weights_sha256"] and file.tell() < 3000
    assert bytes(backbone.weights_sha256.tolist()).hex() == backbone.key.weights_hash
    backbone.load_state_dict(backbone.state_dict())


def test_a_checkpoint_of_another_tower_is_refused(backbone, tmp_path):
    other = DenseCLIPBackbone(**write_image_clip(tmp_path, "transformer", seed=1))
    message = f"SHA-256 {backbone.key.weights_hash}.*Got {other.key.weights_hash}"
    with pytest.raises(ValueError, match=message):  # what the Runner loads with, which forgives almost everything
        load_state_dict(torch.nn.ModuleDict({"backbone": backbone}), {"backbone.weights_sha256": other.weights_sha256})


def test_sides_that_are_no_multiple_are_refused(backbone):
    with pytest.raises(ValueError, match="multiples of 16. Got .1, 3, 64, 70.: set the data preprocessor's"):
        backbone(pictures(1, 64, 70))
