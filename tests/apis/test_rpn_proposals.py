"""Proposals of the toy detector's RPN, as a file that extraction reads."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from subpt_dense.apis import load_config
from subpt_dense.apis.rpn_proposals import dump_proposals, load_proposal_network
from subpt_dense.datasets import file_sha256, read_proposals
from subpt_dense.registry import MODELS
from subpt_dense.toyworld.build import build_world

CONFIG = Path(__file__).parents[2] / "configs" / "ovd_toy_template.py"

Dump = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data/toy`` with a few scenes, and an untrained detector's checkpoint."""
    root = tmp_path_factory.mktemp("rpn")
    build_world(root / "data" / "toy", train=3, val=1, train_crops=0, val_crops=0, clip_seeds=(0,))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        torch.manual_seed(0)
        model = MODELS.build(load_config(CONFIG, pretty=False).model)
        model.init_weights()
        torch.save({"state_dict": model.state_dict()}, root / "det.pth")
    return root


@pytest.fixture
def dump(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dump:
    monkeypatch.chdir(world)

    def call(name: str = "p.json", **options: Any) -> dict[str, Any]:
        data = Path("data/toy")
        common = {"annotations": data / "annotations/instances_train_seen.json", "images": data / "train"}
        quiet = {"device": "cpu", "console": Console(file=io.StringIO())}
        known = {"config": CONFIG, "checkpoint": "det.pth", "max_per_image": 20}
        return dump_proposals(tmp_path / name, **{**common, **quiet, **known, **options})

    return call


def test_the_networks_own_boxes(world: Path, tmp_path: Path, dump: Dump) -> None:
    origin = dump()
    annotations = world / "data/toy/annotations/instances_train_seen.json"
    rows = json.loads((tmp_path / "p.json").read_text())
    found = read_proposals(tmp_path / "p.json", annotations, max_per_image=20)
    assert len(rows) == len(found.boxes) and np.diff(found.offsets).tolist() == [20, 20, 20]
    assert origin["checkpoint_sha256"] == file_sha256(world / "det.pth") and origin["max_per_image"] == 20
    assert json.loads((tmp_path / "p.origin.json").read_text()) == origin
    # the same by the detector's own test step, whose images are 128x128 and are not resized
    cfg = load_config(CONFIG, pretty=False)
    cfg.model.test_cfg.rpn.max_per_img = 20
    model: Any = MODELS.build(cfg.model).eval()
    load_proposal_network(model, world / "det.pth")
    dataset = cfg.train_dataloader.dataset
    dataset.update(test_mode=True, pipeline=cfg.test_dataloader.dataset.pipeline)
    from mmengine.dataset import pseudo_collate

    from subpt_dense.registry import DATASETS

    with torch.no_grad():
        for at, item in enumerate(DATASETS.build(dataset)):
            data = model.data_preprocessor(pseudo_collate([item]), False)
            (expected,) = model.rpn_head.predict(model.extract_feat(data["inputs"]), data["data_samples"])
            np.testing.assert_allclose(found.boxes_of(at), expected.bboxes.numpy(), atol=0.02)


def test_a_file_of_the_same_detector_is_kept(tmp_path: Path, dump: Dump) -> None:
    dump()
    before = (tmp_path / "p.json").stat()
    dump()
    assert (tmp_path / "p.json").stat().st_mtime_ns == before.st_mtime_ns
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.json", "p.origin.json"]


def test_a_file_of_another_detector_is_refused(tmp_path: Path, dump: Dump) -> None:
    dump()
    with pytest.raises(FileExistsError, match="max_per_image: the file has 20, you ask for 21"):
        dump(max_per_image=21)
    (tmp_path / "foreign.json").write_text("[]")
    with pytest.raises(FileExistsError, match="config: the file has None, you ask for ovd_toy_template.py"):
        dump("foreign.json")


def test_refused_arguments(world: Path, tmp_path: Path, dump: Dump) -> None:
    with pytest.raises(ValueError, match="`path` of dump_proposals must end in .json. Got '.*p.txt'"):
        dump("p.txt")
    with pytest.raises(FileNotFoundError, match="checkpoint nowhere.pth does not exist"):
        dump(checkpoint="nowhere.pth")
    with pytest.raises(ValueError, match="must be of a detector with a region proposal network"):
        dump(config=CONFIG.with_name("cls_toy_template.py"))
    state = torch.load(world / "det.pth", weights_only=True)["state_dict"]
    torch.save({"state_dict": {k: v for k, v in state.items() if "rpn_cls" not in k}}, tmp_path / "half.pth")
    with pytest.raises(ValueError, match="must hold the config's `rpn_head`. .*half.pth does not fit: .*rpn_cls"):
        dump(checkpoint=tmp_path / "half.pth")
    assert not (tmp_path / "p.json").exists()
