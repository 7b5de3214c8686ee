"""Colours, sizes and legends of drawn class maps, pixel by pixel, and the hook that has them drawn."""

import itertools
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from subpt_dense.registry import HOOKS, VISUALIZERS
from subpt_dense.segmentation import visualizer as module
from subpt_dense.segmentation.visualizer import distinct_colours
from tests.segmentation.dense_model import META, make_runner, scenes_config, segmentor_config, write_scenes

_COUNT = itertools.count()
BAR = 34  # pixels of a title


def make(**options):
    config = {"type": "subpt_dense.ClassMapVisualizer", "name": f"maps{next(_COUNT)}", "min_side": 200, **options}
    made = VISUALIZERS.build(config)
    made.dataset_meta = META
    return made


def sample(truth=None, found=None) -> SegDataSample:
    made = SegDataSample()
    for key, labels in (("gt_sem_seg", truth), ("pred_sem_seg", found)):
        if labels is not None:
            setattr(made, key, PixelData(data=torch.as_tensor(labels)[None]))
    return made


def halves(left: int, right: int, size=(100, 100)) -> np.ndarray:
    labels = np.full(size, left)
    labels[:, size[1] // 2 :] = right
    return labels


def draw(made, tmp_path, data, shape=(100, 100), **options) -> np.ndarray:
    out = tmp_path / "out.png"
    made.add_datasample("picture", np.full((*shape, 3), 100, np.uint8), data, out_file=str(out), **options)
    return cv2.imread(str(out))[:, :, ::-1]


def test_folders_are_made_and_what_cannot_be_written_is_told(tmp_path):
    draw(make(), tmp_path / "not" / "there", sample(found=halves(0, 1)))
    (tmp_path / "out.png").mkdir()
    with pytest.raises(
        OSError, match="`out_file` of ClassMapVisualizer must be a picture file that can be written. Got .*out.png"
    ):
        draw(make(), tmp_path, sample(found=halves(0, 1)))


def blended(made, label) -> np.ndarray:
    return 100 * (1 - made.alpha) + np.array(made.dataset_meta["palette"][label]) * made.alpha


def test_truth_left_and_prediction_right(tmp_path):
    made = make()
    picture = draw(made, tmp_path, sample(halves(0, 255), halves(2, 1)))
    assert picture.shape[1] == 400 and picture.shape[0] > 200 + BAR
    panels = picture[BAR : BAR + 200]
    for column, expected in ((50, blended(made, 0)), (150, [50] * 3), (250, blended(made, 2)), (350, blended(made, 1))):
        np.testing.assert_allclose(panels[100, column], expected, atol=2)


def legend_texts(monkeypatch) -> list[str]:
    texts: list[str] = []
    draw_text = module.ImageDraw.ImageDraw.text

    def noted(self, place, text, **options):
        texts.append(text)
        return draw_text(self, place, text, **options)

    monkeypatch.setattr(module.ImageDraw.ImageDraw, "text", noted)
    return texts


def test_the_legend_lists_the_classes_there_are(tmp_path, monkeypatch):
    texts = legend_texts(monkeypatch)
    made = make()
    found = halves(2, 1)
    found[:, 20:] = 1
    picture = draw(made, tmp_path, sample(halves(255, 255), found))
    assert texts == ["truth", "prediction", "owl (unseen)", "dog"]
    legend = picture[BAR + 200 :]
    for label in (1, 2):
        colour = np.array(made.dataset_meta["palette"][label])
        assert (np.abs(legend.astype(int) - colour).max(-1) == 0).sum() > 250  # the swatch, 17 x 17 within its frame
    assert (legend < 60).all(-1).sum() > 100  # letters
    assert not (np.abs(legend.astype(int) - made.dataset_meta["palette"][0]).max(-1) == 0).any()


def test_a_long_legend_takes_several_lines(tmp_path):
    made = make()
    made.dataset_meta = {"classes": [f"a rather long class name {i}" for i in range(20)]}
    labels = np.arange(100)[None].repeat(100, 0) // 5
    tall = draw(made, tmp_path, sample(found=labels))
    assert tall.shape[0] > BAR + 200 + 20 * 20 and tall.shape[1] == 200
    short = draw(made, tmp_path, sample(found=labels), with_labels=False)
    assert short.shape == (BAR + 200, 200, 3)


def test_the_smallest_are_counted_only(tmp_path, monkeypatch):
    texts = legend_texts(monkeypatch)
    found = halves(2, 1)
    found[:, 70:] = 0
    draw(make(most=1), tmp_path, sample(found=found))
    assert texts == ["prediction", "dog", "and 2 more"]


def test_maps_of_another_size_are_brought_to_the_picture_s(tmp_path):
    made = make()
    picture = draw(made, tmp_path, sample(found=halves(0, 1, (5, 10))), shape=(240, 300))
    panel = picture[BAR : BAR + 240]
    assert panel.shape == (240, 300, 3)
    np.testing.assert_allclose(panel[10, 149], blended(made, 0), atol=2)
    np.testing.assert_allclose(panel[10, 150], blended(made, 1), atol=2)


def test_no_maps_and_a_class_nobody_knows(tmp_path):
    made = make()
    assert draw(made, tmp_path, None).shape == (BAR + 200, 200, 3)
    picture = draw(made, tmp_path, sample(found=halves(9, 9)))
    np.testing.assert_allclose(picture[BAR + 100, 100], 50, atol=2)


def test_to_the_back_ends(tmp_path):
    made = make(vis_backends=[{"type": "mmengine.LocalVisBackend"}], save_dir=str(tmp_path))
    made.add_datasample("picture", np.zeros((50, 60, 3), np.uint8), sample(found=halves(0, 1, (50, 60))), step=3)
    assert [path.name for path in tmp_path.rglob("*.png")] == ["picture_3.png"]


@pytest.mark.parametrize("count", [2, 20, 59, 171])
def test_colours_can_be_told_apart(count):
    colours = np.array(distinct_colours(count), dtype=float)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1e9 * np.eye(count)
    assert colours.min() >= 0 and colours.max() <= 255
    assert distances.min() > {2: 200, 20: 50, 59: 20, 171: 5}[count]
    assert min(np.diag(distances, 1)) > 150  # neighbours in the list
    assert colours.max(1).min() > 150  # none is lost on a dark picture


def test_palettes():
    meta = {**META, "palette": [(i, i, i) for i in range(4)]}
    own, distinct = make(colours="palette"), make()
    own.dataset_meta = distinct.dataset_meta = meta
    assert own.dataset_meta["palette"] == meta["palette"] != distinct.dataset_meta["palette"]
    own.dataset_meta = {**meta, "palette": [(0, 0, 0)]}
    assert own.dataset_meta["palette"] == distinct_colours(4) and meta["palette"][1] == (1, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, r"in \(0, 1\]. Got 0"),
        ({"most": 0}, "at least 1. Got 0"),
        ({"colours": "blue"}, "'palette'. Got 'blue'"),
    ],
)
def test_other_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"of ClassMapVisualizer must be .*{message}"):
        make(**options)


# ---- the hook --------------------------------------------------------------------------------------------------------


def test_show_dir(dense_clip, tmp_path):
    scenes = write_scenes(tmp_path / "scenes", count=3)
    model = segmentor_config(dense_clip)
    hook = {"type": "subpt_dense.ClassMapHook", "draw": True, "test_out_dir": str(tmp_path / "shown"), "interval": 2}
    options = {
        "default_hooks.visualization": hook,
        "visualizer": {"type": "subpt_dense.ClassMapVisualizer", "name": "shown"},
    }
    make_runner(tmp_path / "run", model, None, scenes_config(scenes), **options).test()
    shown = sorted((tmp_path / "shown").iterdir())
    assert [path.name for path in shown] == ["0.png", "2.png"]
    assert Image.open(shown[0]).size[0] == 960


def test_the_hook_draws_only_when_told_to(monkeypatch, tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    calls = []
    shower = SimpleNamespace(add_datasample=lambda *args, **kwargs: calls.append((args[0], kwargs["out_file"])))
    monkeypatch.setattr("subpt_dense.segmentation.drawing_hook.Visualizer.get_current_instance", lambda: shower)
    one = sample()
    one.set_metainfo({"img_path": str(tmp_path / "a.png")})
    runner = SimpleNamespace(work_dir=str(tmp_path), timestamp="now", iter=0)
    for draw_it, expected in ((False, []), (True, [("a", None), ("a", str(tmp_path / "now" / "out" / "a.png"))])):
        hook = HOOKS.build({"type": "subpt_dense.ClassMapHook", "draw": draw_it, "test_out_dir": "out"})
        hook.before_val(runner)
        hook.after_val_iter(runner, 0, None, [one])
        hook.before_test(runner)
        hook.after_test_iter(runner, 0, None, [one])
        assert calls == expected
    with pytest.raises(ValueError, match="`interval` of ClassMapHook must be at least 1. Got 0"):
        HOOKS.build({"type": "subpt_dense.ClassMapHook", "interval": 0})
