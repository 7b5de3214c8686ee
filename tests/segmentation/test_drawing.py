"""A picture of one's own in names of one's own: mmseg's functions, our drawing, the shipped configs."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.apis import inference_model, init_model
from mmseg.structures import SegDataSample
from PIL import Image

from subpt_dense.segmentation import draw_class_map
from tests.segmentation.test_visualizer import halves, legend_texts, sample
from tests.toyworld.tiny_world import tiny_world

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = ["scarlet star", "blue ring", "wet grass"]


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tiny_world(tmp_path_factory)
    monkeypatch.chdir(root)
    return root


def trained(name: str, folder: Path) -> str:
    """A checkpoint with the metainfo of its training, as a run leaves it."""
    model = init_model(CONFIGS / f"{name}.py", device="cpu")
    path = folder / "iter_1.pth"
    torch.save({"state_dict": model.state_dict(), "meta": {"dataset_meta": {"classes": ("old one", "older")}}}, path)
    return str(path)


@pytest.mark.parametrize("name", ["zss_toy_template", "zss_toy_coop", "zss_toy_twostage_template"])
def test_own_names_on_an_own_picture(world, tmp_path, monkeypatch, name):
    checkpoint = None if name == "zss_toy_template" else trained(name, tmp_path)
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)).save(picture)
    model = init_model(CONFIGS / f"{name}.py", checkpoint, device="cpu")
    model.set_vocabulary(NAMES)
    found = inference_model(model, str(picture))
    labels = found.pred_sem_seg.data
    assert labels.shape == (1, 90, 120) and found.seg_logits.data.shape == (3, 90, 120)

    texts = legend_texts(monkeypatch)
    draw_class_map(model, found, tmp_path / "not" / "there" / "drawn.png")
    assert cv2.imread(str(tmp_path / "not/there/drawn.png")).shape[1] == 640  # of one panel
    by_size = sorted(labels.unique().tolist(), key=lambda label: -(labels == label).sum())
    assert texts == ["prediction", *(NAMES[label] for label in by_size)]

    array = np.asarray(Image.open(picture))[..., ::-1]  # BGR, as OpenCV has it
    again = inference_model(model, array)
    assert torch.equal(again.pred_sem_seg.data, labels)
    draw_class_map(model, again, tmp_path / "array.png", picture=array[..., ::-1])
    assert (tmp_path / "array.png").read_bytes() == (tmp_path / "not/there/drawn.png").read_bytes()


def test_a_sample_of_no_file_needs_the_picture(tmp_path):
    with pytest.raises(
        ValueError, match="`picture` of draw_class_map must be given for a sample that is not of a file"
    ):
        draw_class_map(None, sample(found=halves(0, 1)), tmp_path / "x.png")


@pytest.mark.parametrize("name", ["drawn/street", "street.foo"])
def test_a_file_that_cannot_be_written(tmp_path, name):
    model = SimpleNamespace(prompt=SimpleNamespace(vocabulary=("a", "b")))
    picture = np.zeros((*sample(found=halves(0, 1)).pred_sem_seg.shape, 3), np.uint8)
    with pytest.raises(OSError, match="must be a picture file that can be written. Got .*/street"):
        draw_class_map(model, sample(found=halves(0, 1)), tmp_path / name, picture=picture)
    with pytest.raises(ValueError, match="`picture` of draw_class_map must be as large as the map"):
        draw_class_map(model, sample(found=halves(0, 1)), tmp_path / "x.png", picture=picture[1:])


def test_turned_pictures_are_drawn_as_they_are_read(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)

    model = SimpleNamespace(prompt=SimpleNamespace(vocabulary=("a", "b")))
    found: SegDataSample = sample(found=halves(0, 1, (40, 20)))
    found.set_metainfo({"img_path": str(tmp_path / "turned.jpg")})
    draw_class_map(model, found, tmp_path / "x.png", min_side=20)
    assert cv2.imread(str(tmp_path / "x.png")).shape[1] == 20


def innermost(dataset):
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    return dataset


@pytest.mark.parametrize(
    "data",
    [
        "toy", "voc", "cocostuff", "context", "context60", "pc59", "pc459", "ade150", "ade847", "voc20",
        "voc_san", "cocostuff_san", "context_san",
    ],
)  # fmt: skip
def test_a_picture_is_prepared_as_in_the_test(data):
    cfg = Config.fromfile(CONFIGS / f"zss_{data}_template.py", import_custom_modules=False)
    tested = [step for step in innermost(cfg.test_dataloader.dataset).pipeline if "LoadLabels" not in step["type"]]
    assert cfg.test_pipeline == tested
