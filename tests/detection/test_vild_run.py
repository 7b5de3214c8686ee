"""ViLD's toy configs on real Runners: one training, three modes, boxes and masks; a missing cache; who is base."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import Tensor, nn

from subpt_dense.apis import load_config, train
from subpt_dense.apis import test as run_test
from subpt_dense.datasets import get_split
from subpt_dense.datasets.proposals import read_ground_truth
from subpt_dense.datasets.region_writer import write_regions
from subpt_dense.detection import vild_roi_head
from subpt_dense.hooks import VocabularyHook
from subpt_dense.toyworld.build import build_world
from tests.detection.toy_detector import CONFIGS
from tests.hooks.prompt_run import Host, NamedData

#: Four iterations: two explored, with a snapshot each, and two projected.
SHORT = {
    "train_cfg.max_iters": 4,
    "train_cfg.val_interval": 4,
    "train_dataloader.batch_size": 2,
    "default_hooks.checkpoint.interval": 4,
    "model.language.names.generic.limit": 5,
    "test_dataloader.batch_size": 4,
    "model.test_cfg.rcnn.max_per_img": 5,
    "model.language.templates": ["{}"],
}
SHORT_SUBPT = {"custom_hooks.0.rank": 1, "custom_hooks.0.explore": 2, "custom_hooks.0.interval": 1}
ROOT = "data/toy"

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data/toy`` in it: 6 training and 4 validation scenes, regions for the training scenes."""
    folder = tmp_path_factory.mktemp("vild")
    build_world(folder / ROOT, train=6, val=4, train_crops=0, val_crops=0, clip_seeds=(0,))
    truth = read_ground_truth(folder / ROOT / "annotations/instances_train_seen.json")
    generator, regions = np.random.default_rng(0), {}
    for position, image_id in enumerate(truth.image_ids):
        boxes = truth.boxes_of(position)[: 0 if position == 2 else None]  # one image has no region
        embeddings = generator.standard_normal((len(boxes), 64)).astype(np.float32)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        regions[image_id] = boxes, np.ones(len(boxes)), embeddings.astype(np.float16)
    facts = {"backbone": "subpt-toy", "weights": "clip_seed0.pt", "weights_hash": "0" * 64}
    write_regions(folder / ROOT / "regions", regions, **facts)
    return folder


@pytest.fixture
def make(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeConfig:
    monkeypatch.chdir(world)

    def config(head: str, options: dict[str, Any] | None = None, work_dir: str = "run") -> Config:
        short = SHORT | (SHORT_SUBPT if "subpt" in head else {}) | (options or {})
        path = CONFIGS / f"ovd_toy_vild_{head}.py"
        return load_config(path, options=short, work_dir=str(tmp_path / work_dir), pretty=False)

    return config


def test_one_training_serves_every_mode(make: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = train(make("subpt_nfl"))
    split = get_split(f"{ROOT}/split.json")
    assert runner.model.prompt.vocabulary == split.base and runner.model.prompt.displacement() > 0
    assert runner.model.roi_head._base.all()  # back from the validation: every training name is base
    history = runner.message_hub.get_scalar("train/loss_distill").data[0]
    assert len(history) == 4 and all(value > 0 for value in history)

    fused: list[tuple[int, int]] = []

    def watch(text: Tensor, image: Tensor, base: Tensor, **weights: float) -> Tensor:
        assert base.tolist() == [name in set(split.base) for name in split.all]
        fused.append(text.shape)
        return original(text, image, base, **weights)

    original = vild_roi_head.fuse_scores
    monkeypatch.setattr(vild_roi_head, "fuse_scores", watch)
    for mode in ("text", "image", "ensemble"):
        result = run_test(make("subpt_nfl", {"model.roi_head.mode": mode}), tmp_path / "run" / "iter_4.pth")
        assert bool(fused) == (mode == "ensemble")
        box, mask = result["tables"]
        assert (box["details"]["ap_of"], mask["details"]["ap_of"]) == ("bbox", "segm")
        for table in (box, mask):
            counts = {name: group["classes"] for name, group in table["groups"].items()}
            assert counts == {"base": 48, "novel": 17, "all": 65} and table["images"] == 4
        assert {"coco/base_ap50", "mask/base_ap50", "mask/novel_ap50"} <= {*result["metrics"]}
    assert {classes for _, classes in fused} == {65}


def test_a_missing_cache_is_named_with_what_makes_it(make: MakeConfig, tmp_path: Path) -> None:
    cfg = make("template", {"train_dataloader.dataset.data_prefix.regions": "no_regions/"})
    with pytest.raises(FileNotFoundError) as error:
        train(cfg)
    for part in (
        "data/toy/no_regions/ (no such folder; `train_dataloader.dataset.data_prefix.regions`)",
        "python tools/extract_regions.py --annotations data/toy/annotations/instances_train_seen.json",
    ):
        assert part in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("data", ["toy", "coco", "lvis"])
def test_every_data_set_s_config_names_its_missing_cache(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        train(load_config(CONFIGS / f"ovd_{data}_vild_subpt.py", work_dir=str(tmp_path / "run"), pretty=False))
    folder = {"lvis": "lvis_v1"}.get(data, data)
    assert f"data/{folder}/regions/ (no such folder" in str(error.value)
    assert f"--out data/{folder}/regions --rpn configs/ovd_{data}_template.py" in str(error.value)


def test_the_regions_of_another_clip_are_refused(make: MakeConfig) -> None:
    options = {"train_dataloader.dataset.pipeline.4.folder": f"{ROOT}/other_regions"}
    regions = {i: (np.zeros((0, 4)), np.zeros(0), np.zeros((0, 64))) for i in range(1, 7)}
    facts = {"backbone": "subpt-toy", "weights": "elsewhere/clip_seed1.pt", "weights_hash": "1" * 64}
    write_regions(f"{ROOT}/other_regions", regions, **facts)
    with pytest.raises(ValueError, match=r"cache 'clip_seed1.pt', rows 'clip_seed0.pt'"):
        train(make("template", options))


# ---- groups, from the data set to whoever asks -----------------------------------------------------------------------


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.given: list[list[bool]] = []

    def set_groups(self, base: Tensor) -> None:
        assert base.dtype == torch.bool
        self.given.append(base.tolist())


def before_test(model: Host, **metainfo: Any) -> None:
    """The hook before testing on a data set with this metainfo, without a Runner around it."""
    dataset = NamedData(("wolf", "cat", "dog"))
    dataset.metainfo |= metainfo
    loader = SimpleNamespace(dataset=dataset)
    logger = SimpleNamespace(info=lambda text: None)
    VocabularyHook().before_test(SimpleNamespace(model=model, logger=logger, test_dataloader=loader))


def test_the_hook_hands_the_data_set_s_base_classes_on() -> None:
    model = Host()
    model.host = nn.Sequential(Grouped(), nn.Sequential(Grouped()))
    takers = [module for module in model.modules() if isinstance(module, Grouped)]
    before_test(model, base_classes=("dog", "cat"), novel_classes=("wolf",))
    assert [taker.given for taker in takers] == [[[False, True, True]]] * 2
    before_test(model, base_classes=["wolf"])  # the same names, of another split
    assert takers[1].given[1:] == [[True, False, False]]


def test_a_data_set_that_does_not_say_who_is_base() -> None:
    before_test(Host())  # nobody asks
    model = Host()
    model.host = Grouped()
    with pytest.raises(ValueError, match="`base_classes` must be in the metainfo of a data set for Grouped"):
        before_test(model)
