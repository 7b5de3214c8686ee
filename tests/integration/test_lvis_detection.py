"""configs/ovd_lvis_subpt.py as it is, on a folder in LVIS's layout with twelve images made here."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from subpt_dense.apis import load_config, train
from subpt_dense.apis import test as run_test
from subpt_dense.datasets import get_split, write_lvis_ovd
from subpt_dense.datasets.name_lists import lvis_v1
from tests.integration.conftest import CONFIGS

SPLIT = get_split("lvis_v1")
RARE = SPLIT.ids[-337:]


def _images(root: Path, count: int, first: int, rng: random.Random) -> list[dict[str, Any]]:
    """JPEGs in both of COCO's folders, named by their address alone."""
    images = []
    for number in range(first, first + count):
        folder = rng.choice(["train2017", "val2017"])
        width, height = rng.choice([(96, 64), (64, 96)])
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / folder / f"{number:012d}.jpg")
        images.append({
            "id": number, "width": width, "height": height,
            "coco_url": f"http://images.cocodataset.org/{folder}/{number:012d}.jpg",
            "neg_category_ids": rng.sample(range(1, 1204), 4), "not_exhaustive_category_ids": [],
        })  # fmt: skip
    return images


def _content(images: list[dict[str, Any]], rng: random.Random) -> dict[str, Any]:
    annotations = []
    for image in images:
        for box in range(3):  # the first is of a base class, so that the image stays in training; the last is rare
            category = rng.choice((SPLIT.ids[:866], range(1, 1204), RARE)[box])
            x, y, side = rng.randint(0, 20), rng.randint(0, 20), rng.randint(30, 40)
            polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
            annotations.append({
                "id": len(annotations) + 1, "image_id": image["id"], "category_id": category, "area": side * side,
                "bbox": [x, y, side, side], "segmentation": [polygon],
            })  # fmt: skip
    categories = [{"id": i, "name": name, "frequency": f} for i, (name, f) in enumerate(lvis_v1(), start=1)]
    rng.shuffle(categories)
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def lvis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``data/lvis_v1`` under the official names, before the training file is made."""
    root, rng = tmp_path / "data" / "lvis_v1", random.Random(0)
    for folder in ("annotations", "train2017", "val2017"):
        (root / folder).mkdir(parents=True)
    for part, count, first in (("train", 8, 1), ("val", 4, 100)):
        content = _content(_images(root, count, first, rng), rng)
        (root / "annotations" / f"lvis_v1_{part}.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    return root


def _options(tiny_clip: tuple[str, str]) -> dict[str, Any]:
    """Weights and size, nothing else."""
    model, pretrained = tiny_clip
    return {
        "model.language.text": {"model": model, "pretrained": str(pretrained)},
        "model.language.templates": "single",
        "model.roi_head.bbox_head.cls_predictor_cfg.embed_dim": 24,
        "model.backbone.init_cfg": None,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "train_dataloader.dataset.oversample_thr": 1e-9,  # eight images: every class is rare
        "train_dataloader.dataset.dataset.pipeline.2.scales": [(128, 96)],
        "val_dataloader.num_workers": 0,
        "val_dataloader.persistent_workers": False,
        "test_dataloader.num_workers": 0,
        "test_dataloader.persistent_workers": False,
        "val_dataloader.dataset.pipeline.1.scale": (128, 96),
        "test_dataloader.dataset.pipeline.1.scale": (128, 96),
        "model.train_cfg.rpn_proposal.max_per_img": 50,
        "model.test_cfg.rpn.max_per_img": 50,
        "model.test_cfg.rcnn.max_per_img": 20,
        "train_cfg.max_epochs": 1,
        "custom_hooks.0.explore": 2,
        "custom_hooks.0.interval": 1,
        "custom_hooks.0.rank": 1,
    }


@pytest.mark.parametrize("head", ["subpt", "template"])
def test_missing_lvis_is_named_with_what_to_do(head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        train(load_config(CONFIGS / f"ovd_lvis_{head}.py", work_dir=str(tmp_path / "run")))
    for expected in (
        "data/lvis_v1/annotations/lvis_v1_train_base.json",
        "data/lvis_v1/annotations/lvis_v1_val.json",
        "data/lvis_v1/train2017",
        "data/lvis_v1/val2017",
        "python tools/prepare_data.py lvis-ovd --root data/lvis_v1",
    ):
        assert expected in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_lvis_config_trains_and_tests(lvis: Path, tiny_clip: tuple[str, str], tmp_path: Path) -> None:
    write_lvis_ovd(lvis)
    options, work_dir = _options(tiny_clip), str(tmp_path / "run")
    runner = train(load_config(CONFIGS / "ovd_lvis_subpt.py", options=options, work_dir=work_dir, pretty=False))
    assert runner.iter >= 3  # two explored, the rest projected
    assert runner.model.prompt.vocabulary == SPLIT.base
    cfg = load_config(CONFIGS / "ovd_lvis_subpt.py", options=options, work_dir=work_dir, pretty=False)
    result = run_test(cfg, tmp_path / "run" / "epoch_1.pth")
    masks, boxes = result["tables"]
    assert (masks["details"]["ap_of"], boxes["details"]["ap_of"]) == ("segm", "bbox")
    for table in (masks, boxes):
        assert table["annotation_file"] == "data/lvis_v1/annotations/lvis_v1_val.json" and table["images"] == 4
        counts = {name: group["classes"] for name, group in table["groups"].items()}
        assert counts == {"base": 866, "novel": 337, "all": 1203, "rare": 337, "common": 461, "frequent": 405}
        assert table["label_space"] == "1203 names (866 base + 337 novel)"
    assert {"mask/segm_APr", "box/bbox_AP"} <= set(result["metrics"])
