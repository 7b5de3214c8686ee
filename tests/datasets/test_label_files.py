import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from subpt_dense.datasets import write_coco_stuff_zss, write_context_zss, write_voc_zss
from subpt_dense.datasets.context_zss import check_labels
from subpt_dense.datasets.label_files import convert_maps, read_ids, read_png, relabel
from subpt_dense.datasets.name_lists import coco_stuff
from subpt_dense.datasets.semantic_names import CONTEXT, context459
from tests.tools.load_tool import load_tool

VOC_MAP = np.array([[0, 1, 20], [15, 255, 255]])
#: What is made of the fixture `voc`: VOC's maps of a and b, SBD's of c and d.
VOC_MADE = {"a": VOC_MAP.tolist(), "b": VOC_MAP.tolist(), "c": [[2] * 3] * 2, "d": [[3] * 3] * 2}


def png(path: Path, values: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8), "P" if palette else "L")
    if palette:
        image.putpalette([(91 * k) % 256 for k in range(768)])
    image.save(path)


def numbers(path: Path) -> list:
    with Image.open(path) as image:
        assert image.mode in ("L", "I;16")
        return np.array(image).tolist()


def lines(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


# ---- one file after the other ----------------------------------------------------------------------------------------


def double(path: Path) -> np.ndarray:
    return relabel(read_png(path), np.arange(128) * 2, path)


@pytest.mark.parametrize("workers", [0, 2])
def test_maps_are_made_once_and_whole(tmp_path: Path, workers: int) -> None:
    jobs = []
    for k in range(4):
        png(tmp_path / "in" / f"{k}.png", np.full((2, 2), k))
        jobs.append((tmp_path / "in" / f"{k}.png", tmp_path / "out" / f"{k}.png"))
    png(jobs[1][1], np.full((2, 2), 77))  # there already
    jobs[2][1].with_name(".2.png.1.tmp").write_bytes(b"half")  # left by a run that was cut short
    assert convert_maps(jobs, double, workers=workers) == 3 and convert_maps(jobs, double) == 0
    assert [numbers(target)[0][0] for _, target in jobs] == [0, 77, 4, 6]


def test_a_missing_map_is_named_before_any_is_made(tmp_path: Path) -> None:
    png(tmp_path / "0.png", np.zeros((2, 2)))
    jobs = [(tmp_path / f"{k}.png", tmp_path / "out" / f"{k}.png") for k in range(8)]
    with pytest.raises(FileNotFoundError, match=r"7 of 8 published label maps are missing: .*1.png, .* and 2 more"):
        convert_maps(jobs, double)
    assert not (tmp_path / "out").exists()


def test_a_broken_map_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"x")
    with pytest.raises(ValueError, match="0.png must be an image. Got UnidentifiedImageError"):
        convert_maps([(tmp_path / "0.png", tmp_path / "out" / "0.png")], double)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("value", [3, -1, 9])
def test_a_number_that_is_not_published(value: int) -> None:
    with pytest.raises(ValueError, match=rf"a.png must hold one published number a pixel. Got \[{value}\]"):
        relabel(np.array([[0, value]]), np.array([4, 5, 6, -1]), Path("a.png"))
    with pytest.raises(ValueError, match=r"Got shape \[1, 1, 3\]"):
        relabel(np.zeros((1, 1, 3), dtype=int), np.array([4]), Path("a.png"))


def test_lists_may_have_blank_lines_and_second_words(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x 1\n\n y -1 \n")
    assert read_ids(tmp_path / "a.txt") == ["x", "y"]
    with pytest.raises(FileNotFoundError, match="lists of images are missing: .*b.txt"):
        read_ids(tmp_path / "b.txt")


# ---- the published sets ----------------------------------------------------------------------------------------------


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC has a and b (training) and v (validation); SBD a, v, c and d, with other maps for a and v."""
    sets, sbd = tmp_path / "VOC2012" / "ImageSets" / "Segmentation", tmp_path / "VOCaug" / "dataset"
    lines(sets / "train.txt", "a", "b")
    lines(sets / "val.txt", "v")
    lines(sbd / "train.txt", "c", "a")
    lines(sbd / "val.txt", "d", "v")
    for name in "abv":
        png(tmp_path / "VOC2012" / "SegmentationClass" / f"{name}.png", VOC_MAP, palette=True)
    (sbd / "cls").mkdir()
    for number, name in enumerate("acdv", start=1):
        struct = {"Segmentation": np.full((2, 3), number, dtype=np.uint8), "Boundaries": np.zeros((1, 2))}
        savemat(sbd / "cls" / f"{name}.mat", {"GTcls": struct})
    return tmp_path


class TestVOC:
    def test_takes_vocs_own_maps_where_there_are_and_no_validation_image_for_training(
        self, voc: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            counts = write_voc_zss(voc)
        assert counts == {"SegmentationClassZSS": {"train": 4, "val": 1, "made": 4}}
        assert read_ids(voc / "VOC2012" / "ImageSets" / "Segmentation" / "trainaug.txt") == ["a", "b", "c", "d"]
        made = voc / "VOC2012" / "SegmentationClassZSS"
        assert {path.stem: numbers(path) for path in made.iterdir()} == VOC_MADE
        assert "but the published lists 10582 and 1449" in caplog.text
        assert write_voc_zss(voc)["SegmentationClassZSS"]["made"] == 0

    def test_maps_of_mmsegs_script_are_neither_taken_nor_touched(self, voc: Path) -> None:
        theirs = voc / "VOC2012" / "SegmentationClassAug"
        for name in "acdv":  # SBD's, of VOC's own images too
            png(theirs / f"{name}.png", np.full((2, 3), 7))
        assert write_voc_zss(voc)["SegmentationClassZSS"]["made"] == 4
        made = {path.stem: numbers(path) for path in (voc / "VOC2012" / "SegmentationClassZSS").iterdir()}
        assert made == VOC_MADE and all(numbers(path) == [[7] * 3] * 2 for path in theirs.iterdir())

    def test_an_interrupted_run_goes_on(self, voc: Path) -> None:
        write_voc_zss(voc)
        made = voc / "VOC2012" / "SegmentationClassZSS"
        for name in "bd":
            (made / f"{name}.png").unlink()
        assert write_voc_zss(voc)["SegmentationClassZSS"]["made"] == 2
        assert {path.stem: numbers(path) for path in made.iterdir()} == VOC_MADE

    def test_a_missing_map_of_validation_is_named_though_none_is_made(self, voc: Path) -> None:
        (voc / "VOC2012" / "SegmentationClass" / "v.png").unlink()
        with pytest.raises(FileNotFoundError, match="1 of 1 label maps of validation are missing: .*Class/v.png"):
            write_voc_zss(voc)

    def test_a_foreign_number_is_named(self, voc: Path) -> None:
        png(voc / "VOC2012" / "SegmentationClass" / "b.png", np.array([[21]]))
        with pytest.raises(ValueError, match=r"b.png must hold one published number a pixel. Got \[21\]"):
            write_voc_zss(voc)

    def test_a_broken_mat_is_named(self, voc: Path) -> None:
        (voc / "VOCaug" / "dataset" / "cls" / "d.mat").write_bytes(b"no")
        with pytest.raises(ValueError, match="d.mat must be a MATLAB file with GTcls / Segmentation"):
            write_voc_zss(voc)

    def test_missing_lists_are_named(self, voc: Path) -> None:
        (voc / "VOCaug" / "dataset" / "val.txt").unlink()
        with pytest.raises(FileNotFoundError, match=r"1 of 4 lists of images are missing: .*VOCaug/dataset/val.txt"):
            write_voc_zss(voc)


class TestCocoStuff:
    def test_ids_close_up(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        used = [i for i in range(182) if i not in (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)]
        png(tmp_path / "annotations" / "train2017" / "1.png", np.array([used]))
        png(tmp_path / "annotations" / "val2017" / "2.png", np.array([[0, 181, 255, 20]]))
        with caplog.at_level(logging.WARNING):
            counts = write_coco_stuff_zss(tmp_path)
        assert counts == {"train2017": {"images": 1, "made": 1}, "val2017": {"images": 1, "made": 1}}
        assert "but the published set 118287" in caplog.text
        assert numbers(tmp_path / "annotations" / "train2017" / "1_labelTrainIds.png") == [list(range(171))]
        assert numbers(tmp_path / "annotations" / "val2017" / "2_labelTrainIds.png") == [[0, 170, 255, 19]]
        assert coco_stuff()[19] == "cow"
        assert write_coco_stuff_zss(tmp_path)["val2017"] == {"images": 1, "made": 0}  # what was made is no source

    @pytest.mark.parametrize("unused", [11, 90, 182, 254])
    def test_an_unused_id_is_named(self, tmp_path: Path, unused: int) -> None:
        for part in ("train2017", "val2017"):
            png(tmp_path / "annotations" / part / "1.png", np.array([[unused]]))
        with pytest.raises(ValueError, match=rf"1.png must hold .* Got \[{unused}\]"):
            write_coco_stuff_zss(tmp_path)

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        png(tmp_path / "annotations" / "train2017" / "1.png", np.array([[0]]))
        with pytest.raises(FileNotFoundError, match="must hold COCO-Stuff's maps. Got none in .*val2017"):
            write_coco_stuff_zss(tmp_path)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    listed = [f"{i}: {name.replace(' ', '')}" for i, name in enumerate(context459(), start=1)]
    (tmp_path / "labels.txt").write_text("\n".join([*listed, "", "459 labels"]) + "\n")
    lines(tmp_path / "ImageSets" / "Main" / "train.txt", "a")
    lines(tmp_path / "ImageSets" / "Main" / "val.txt", "b")
    (tmp_path / "trainval").mkdir()
    for name in "ab":
        savemat(tmp_path / "trainval" / f"{name}.mat", {"LabelMap": np.array([[1, 2, 440], [459, 458, 9]], np.uint16)})
    return tmp_path


class TestContext:
    def test_numbers_go_by_name(self, context: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            counts = write_context_zss(context)
        assert counts["SegmentationClassContext"] == {"train": 1, "val": 1, "made": 2}
        names = list(CONTEXT)
        expected = [[0, 1, names.index("wall") + 1], [0, names.index("wood") + 1, 2]]
        assert numbers(context / "SegmentationClassContext" / "a.png") == expected
        assert numbers(context / "SegmentationClassContext459" / "b.png") == [[1, 2, 440], [459, 458, 9]]
        assert not (context / "SegmentationClassContext459" / "a.png").exists()
        assert read_ids(context / "ImageSets" / "SegmentationContext" / "val.txt") == ["b"]
        assert "but the published set 4998" in caplog.text

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [("2: aeroplane", "2: plane", "2 is 'plane', not 'aeroplane'"), ("9: bag", "x: bag", "lines `number: name`")],
    )
    def test_other_labels_are_refused(self, context: Path, old: str, new: str, message: str) -> None:
        path = context / "labels.txt"
        path.write_text(path.read_text().replace(f"\n{old}\n", f"\n{new}\n"))
        with pytest.raises(ValueError, match=message):
            check_labels(path)


def test_the_command_runs_each_job(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = load_tool("prepare_data")
    tool.main(["voc-zss", "--root", str(voc), "--workers", "1"])
    assert (voc / "VOC2012" / "SegmentationClassZSS" / "d.png").is_file()
    for job in ("cocostuff-zss", "context-zss"):
        with pytest.raises(SystemExit) as stopped:
            tool.main([job, "--root", str(voc / "none")])
        assert stopped.value.code == 1
    assert "COCO-Stuff's maps" in capsys.readouterr().err
