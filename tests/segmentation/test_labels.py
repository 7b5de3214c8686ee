from pathlib import Path

import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from subpt_dense.registry import TRANSFORMS
from subpt_dense.segmentation.labels import LoadLabels
from tests.segmentation.label_files import write_map

NUMBERS = np.array([[0, 1, 2], [3, 255, 0]])
MAP = {0: 2, 1: 255, 2: 0, 3: 1}  # number -> label; 1 is in no group
MODES = ["L", "P", "I;16"]


def load(path: Path, transform: LoadLabels | None = None, **results):
    made = (transform or LoadLabels())({"seg_map_path": str(path), "seg_fields": [], **results})
    return made if made is None else made["gt_seg_map"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.png"


@pytest.mark.parametrize("mode", MODES)
class TestNumbersAreWhatTheFileHas:
    def test_as_they_are(self, path: Path, mode: str) -> None:
        write_map(path, NUMBERS, mode)
        labels = load(path)
        assert labels.dtype == np.uint8 and (labels == NUMBERS).all()

    def test_mapped_to_labels(self, path: Path, mode: str) -> None:
        write_map(path, NUMBERS, mode)
        assert load(path, label_map=MAP).tolist() == [[2, 255, 0], [1, 255, 2]]

    def test_one_less_where_zero_is_no_class(self, path: Path, mode: str) -> None:
        write_map(path, NUMBERS, mode)
        assert load(path, reduce_zero_label=True).tolist() == [[255, 0, 1], [2, 255, 255]]
        labels = load(path, reduce_zero_label=True, label_map={0: 7, 1: 255, 2: 5})
        assert labels.tolist() == [[255, 7, 255], [5, 255, 255]]

    def test_equal_the_hosts_where_it_can(self, path: Path, mode: str) -> None:
        write_map(path, NUMBERS, mode)
        for reduce_zero in (False, True):
            shared = {"reduce_zero_label": reduce_zero, "label_map": MAP}
            host = LoadAnnotations()({"seg_map_path": str(path), "seg_fields": [], **shared})["gt_seg_map"]
            assert (load(path, **shared) == host).all()


def test_the_index_of_a_palette_counts_not_its_colour(path: Path) -> None:
    write_map(path, NUMBERS, "P")
    with Image.open(path) as image:
        assert image.mode == "P" and not (np.array(image.convert("L")) == NUMBERS).all()
    assert (load(path) == NUMBERS).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_hold_more_than_256_classes(tmp_path: Path, suffix: str) -> None:
    numbers = np.array([[0, 255, 256, 846, 65535]])
    path = tmp_path / f"a{suffix}"
    write_map(path, numbers, "I;16")
    identity = {k: k for k in range(847)}
    labels = load(path, label_map=identity, ignore_index=65535)
    assert labels.dtype == np.uint16 and (labels == numbers).all()
    host = LoadAnnotations()({"seg_map_path": str(path), "seg_fields": [], "reduce_zero_label": False})
    assert not (host["gt_seg_map"] == numbers).all()  # it cuts them to 8 bits
    # 65535 is ignored in a set of few classes as well, and becomes its ignore_index
    write_map(path, np.array([[0, 65535]]), "I;16")
    assert load(path, label_map={0: 0}).tolist() == [[0, 255]]
    assert load(path, label_map={0: 0}, reduce_zero_label=True).tolist() == [[255, 255]]


def test_other_steps_find_what_the_host_would_leave(path: Path) -> None:
    write_map(path, NUMBERS)
    results = LoadLabels()({"seg_map_path": str(path), "seg_fields": [], "label_map": MAP, "ori_shape": (2, 3)})
    assert results["seg_fields"] == ["gt_seg_map"] and results["gt_seg_map"].flags.c_contiguous


def test_each_data_set_has_its_own_label_map(path: Path) -> None:
    write_map(path, np.array([[0, 1]]))
    transform = LoadLabels()
    for label_map in ({0: 1, 1: 0}, {0: 5, 1: 6}, {0: 1, 1: 0}):
        assert load(path, transform, label_map=label_map).tolist() == [[label_map[0], label_map[1]]]


class TestEmptyMaps:
    @pytest.mark.parametrize(("on_empty", "kept"), [("keep", True), ("skip", False)])
    @pytest.mark.parametrize("number", [255, 1], ids=["ignored in the file", "of no group"])
    def test_are_kept_or_skipped(self, path: Path, on_empty: str, kept: bool, number: int) -> None:
        write_map(path, np.full((3, 3), number))
        labels = load(path, LoadLabels(on_empty=on_empty), label_map=MAP)
        assert (labels is not None) == kept
        if kept:
            assert (labels == 255).all()

    def test_others_are_never_skipped(self, path: Path) -> None:
        write_map(path, np.array([[255, 0]]))
        assert load(path, LoadLabels(on_empty="skip"), label_map=MAP) is not None


class TestRefusals:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        ("number", "shared", "message"),
        [
            (4, {"label_map": MAP}, r"a.png must hold numbers of the data set's 4 classes \(0 to 3\) or 255.* Got 4"),
            (254, {"label_map": MAP}, "Got 254"),
            (5, {"label_map": MAP, "reduce_zero_label": True}, r"\(1 to 4\) or 255, ignored. Got 5"),
            (2, {"label_map": {0: 0, 3: 1}}, "Got 2"),
        ],
    )
    def test_a_number_that_is_no_class(self, path: Path, mode: str, number: int, shared: dict, message: str) -> None:
        write_map(path, np.array([[0, 0], [1, number]]) if number != 2 else np.array([[0, 2]]), mode)
        with pytest.raises(ValueError, match=message):
            load(path, **shared)

    def test_a_16_bit_number_that_8_bits_would_hide(self, path: Path) -> None:
        write_map(path, np.array([[0, 256]]), "I;16")  # 256 is 0 in 8 bits
        with pytest.raises(ValueError, match="Got 256"):
            load(path, label_map=MAP)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "F"])
    def test_colours_and_fractions(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / "a.tif"
        Image.new(mode, (3, 2)).save(path)
        with pytest.raises(ValueError, match=f"a.tif must hold one number a pixel .* Got mode '{mode}'"):
            load(path, label_map=MAP)

    def test_another_size_than_the_image(self, path: Path) -> None:
        write_map(path, NUMBERS)
        with pytest.raises(ValueError, match=r"size of its image, 3 x 2 \(height x width\). Got 2 x 3"):
            load(path, ori_shape=(3, 2))

    @pytest.mark.parametrize(
        ("content", "message"),
        [(b"", "must be an image. Got an empty file"), (b"no image", "must be an image. Got UnidentifiedImageError")],
    )
    def test_a_file_that_is_no_map(self, path: Path, content: bytes, message: str) -> None:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"Label map .*a.png {message}"):
            load(path)

    def test_half_a_file(self, path: Path) -> None:
        write_map(path, np.random.default_rng(0).integers(0, 200, (64, 64)))
        path.write_bytes(path.read_bytes()[:1500])
        with pytest.raises(ValueError, match="Label map .*a.png must be an image. Got "):
            load(path)

    def test_no_file(self, path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="Label map .*a.png does not exist"):
            load(path)

    def test_an_unknown_policy(self) -> None:
        with pytest.raises(ValueError, match="`on_empty` of LoadLabels must be one of 'keep', 'skip'. Got 'drop'"):
            LoadLabels(on_empty="drop")


def test_is_built_from_a_config_and_shows_its_arguments() -> None:
    made = TRANSFORMS.build({"type": "subpt_dense.LoadLabels", "on_empty": "skip"})
    assert repr(made) == "LoadLabels(on_empty='skip', backend_args=None)"
