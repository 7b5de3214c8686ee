"""configs/ovd_coco_subpt.py as it is, on a COCO-layout folder of twenty images made here."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from subpt_dense.apis import load_config, train
from subpt_dense.apis import test as run_test
from subpt_dense.datasets import get_split, write_coco_ovd
from tests.integration.conftest import CONFIGS

SPLIT = get_split("coco_ovd")
IGNORED = {10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 37: "sports ball"}


def _write_images(folder: Path, count: int, rng: random.Random) -> list[dict[str, Any]]:
    """JPEGs of several sizes and modes; the second is grayscale, the third CMYK."""
    folder.mkdir(parents=True)
    images = []
    for number in range(1, count + 1):
        width, height = rng.choice([(96, 64), (64, 96), (80, 80)])
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).convert({2: "L", 3: "CMYK"}.get(number, "RGB"))
        name = f"{number:012d}.jpg"
        image.save(folder / name)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
    return images


def _annotations(folder: str, images: list[dict[str, Any]], rng: random.Random) -> dict[str, Any]:
    """Three boxes an image, one of them a crowd now and then; every fifth image is empty; categories in scrambled
    order."""
    names = dict(zip(SPLIT.ids, SPLIT.all, strict=True)) | IGNORED
    ids = sorted(names)
    annotations = []
    for image in images:
        for box in range(0 if image["id"] % 5 == 0 else 3):
            x, y, side = rng.randint(0, 20), rng.randint(0, 20), rng.randint(30, 40)
            # the first box is of a base class, so that the image stays in training
            category = rng.choice(SPLIT.ids[:48]) if box == 0 else rng.choice(ids)
            annotations.append(
                {
                    **{"id": len(annotations) + 1, "image_id": image["id"], "category_id": category},
                    **{
                        "bbox": [x, y, side, side],
                        "area": side * side,
                        "iscrowd": int(box == 2 and image["id"] % 3 == 0),
                    },
                    "segmentation": [[x, y, x + side, y, x + side, y + side, x, y + side]],
                }
            )
    rng.shuffle(ids)
    return {
        "info": {"description": folder},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": names[i], "supercategory": "thing"} for i in ids],
    }


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``data/coco`` with twenty images under the official names, before the split files are made."""
    root, rng = tmp_path / "data" / "coco", random.Random(0)
    (root / "annotations").mkdir(parents=True)
    for part, count in (("train2017", 12), ("val2017", 8)):
        content = _annotations(part, _write_images(root / part, count, rng), rng)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
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
        "train_dataloader.dataset.pipeline.2.scale": (128, 96),
        "val_dataloader.dataset.pipeline.1.scale": (128, 96),
        "test_dataloader.dataset.pipeline.1.scale": (128, 96),
        "model.train_cfg.rpn_proposal.max_per_img": 50,
        "model.test_cfg.rpn.max_per_img": 50,
        "train_cfg.max_epochs": 1,
        "custom_hooks.0.explore": 2,
        "custom_hooks.0.interval": 1,
        "custom_hooks.0.rank": 1,
    }


@pytest.mark.parametrize("head", ["subpt", "template"])
def test_missing_coco_is_named_with_what_to_do(head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        train(load_config(CONFIGS / f"ovd_coco_{head}.py", work_dir=str(tmp_path / "run")))
    for expected in (
        "data/coco/annotations/instances_train2017_seen_2.json",
        "data/coco/annotations/instances_val2017_all_2.json",
        "data/coco/train2017",
        "data/coco/val2017",
        "python tools/prepare_data.py coco-ovd --root data/coco",
    ):
        assert expected in str(error.value)
    assert not (tmp_path / "run").exists()


def test_the_coco_config_trains_and_tests(coco: Path, tiny_clip: tuple[str, str], tmp_path: Path) -> None:
    write_coco_ovd(coco)
    options, work_dir = _options(tiny_clip), str(tmp_path / "run")
    runner = train(load_config(CONFIGS / "ovd_coco_subpt.py", options=options, work_dir=work_dir))
    assert runner.iter >= 3  # two explored, the rest projected
    assert runner.model.prompt.vocabulary == SPLIT.base
    result = run_test(
        load_config(CONFIGS / "ovd_coco_subpt.py", options=options, work_dir=work_dir), tmp_path / "run" / "epoch_1.pth"
    )
    (table,) = result["tables"]
    assert table["annotation_file"] == "data/coco/annotations/instances_val2017_all_2.json"
    assert {name: group["classes"] for name, group in table["groups"].items()} == {"base": 48, "novel": 17, "all": 65}
    kept = json.loads((coco / "annotations" / "instances_val2017_all_2.json").read_text())["images"]
    assert table["images"] == len(kept) == 7  # one of the eight is empty
