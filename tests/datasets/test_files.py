import hashlib
import os
import stat
from pathlib import Path

import pytest
from mmengine.config import Config

from subpt_dense.datasets import file_sha256, require_files, write_json
from tests.datasets.image_files import write_folders, write_set

HELP = "Fetch it from example.org, then run tools/prepare_data.py."


def dataset(root: Path, **kwargs) -> dict:
    made = {"type": "D", "data_root": str(root), "ann_file": "ann.json", "data_prefix": {"img": "images/"}}
    return made | kwargs


def config(root: Path, **kwargs) -> Config:
    one = {"dataset": dataset(root)}
    evaluator = {"type": "M", "ann_file": str(root / "ann.json")}
    loaders = {f"{stage}_dataloader": one for stage in ("train", "val", "test")}
    return Config(loaders | {"val_evaluator": evaluator, "test_evaluator": [evaluator], "data_help": HELP} | kwargs)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "ann.json").write_text("{}")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").touch()
    return tmp_path


class TestRequireFiles:
    def test_is_silent_when_all_is_there(self, here: Path) -> None:
        require_files(config(here))
        require_files(Config({"model": {}, "train_dataloader": None, "val_evaluator": None}))

    def test_names_all_that_is_missing_once_each_with_the_help(self, tmp_path: Path) -> None:
        cfg = config(tmp_path, train_dataloader={"dataset": dataset(tmp_path / "other")})
        with pytest.raises(FileNotFoundError) as caught:
            require_files(cfg)
        lines = str(caught.value).splitlines()
        assert lines[0] == "This config needs data that is not here:" and lines[-1] == HELP
        assert [line.split(" (")[0].strip() for line in lines[1:-1]] == [
            f"{tmp_path}/{name}" for name in ("other/ann.json", "other/images/", "ann.json", "images/")
        ]
        assert "no such file; `train_dataloader.dataset.ann_file`" in lines[1]
        assert "no such folder; `train_dataloader.dataset.data_prefix.img`" in lines[2]

    def test_without_help_points_to_the_readme(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="data/README.md says where"):
            require_files(config(tmp_path, data_help=None))

    def test_the_names_of_a_label_map_are_a_file_too(self, here: Path) -> None:
        require_files(config(here, train_dataloader={"dataset": dataset(here, labels=["a", "b"])}))
        with pytest.raises(FileNotFoundError, match=r"names.txt \(no such file; `train_dataloader.dataset.labels`"):
            require_files(config(here, train_dataloader={"dataset": dataset(here, labels=str(here / "names.txt"))}))

    def test_an_empty_folder_is_missing_data(self, here: Path) -> None:
        (here / "images" / "1.png").unlink()
        with pytest.raises(FileNotFoundError, match=r"images/ \(an empty folder; "):
            require_files(config(here))

    @pytest.mark.parametrize(
        ("wrap", "key"),
        [
            (lambda inner: {"type": "Repeat", "times": 2, "dataset": inner}, "dataset.dataset"),
            (lambda inner: {"type": "Concat", "datasets": [inner]}, "dataset.datasets[0]"),
            (lambda inner: {"type": "R", "dataset": {"type": "C", "datasets": [inner]}}, "dataset.dataset.datasets[0]"),
        ],
    )
    def test_looks_into_wrappers(self, here: Path, wrap, key: str) -> None:
        require_files(config(here, train_dataloader={"dataset": wrap(dataset(here))}))
        with pytest.raises(FileNotFoundError) as caught:
            require_files(config(here, train_dataloader={"dataset": wrap(dataset(here, ann_file="no.json"))}))
        assert f"{here / 'no.json'} (no such file; `train_dataloader.{key}.ann_file`)" in str(caught.value)

    @pytest.mark.parametrize(
        "evaluator",
        [{"ann_file": "no.json"}, [{"type": "A"}, {"ann_file": "no.json"}], {"metrics": [{"ann_file": "no.json"}]}],
    )
    def test_looks_into_evaluators(self, here: Path, evaluator: object) -> None:
        with pytest.raises(FileNotFoundError, match=r"no\.json \(no such file; `val_evaluator"):
            require_files(config(here, val_evaluator=evaluator))

    def test_looks_for_split_files_but_not_for_built_in_splits(self, here: Path) -> None:
        require_files(config(here, val_dataloader={"dataset": dataset(here, split="coco_ovd")}))
        with pytest.raises(FileNotFoundError, match=r"mine\.json \(no such file; `val_dataloader.dataset.split`"):
            require_files(config(here, val_dataloader={"dataset": dataset(here, split="mine.json")}))

    def test_checks_only_the_stages_that_run(self, here: Path) -> None:
        cfg = config(here, train_dataloader={"dataset": dataset(here, ann_file="no.json")})
        require_files(cfg, stages=("val", "test"))
        with pytest.raises(ValueError, match="`stages` must be among 'train', 'val', 'test'. Got 'fit'"):
            require_files(cfg, stages=("fit",))

    def test_leaves_absolute_remote_and_absent_paths_alone(self, here: Path) -> None:
        absolute = dataset(
            Path("/elsewhere"), ann_file=str(here / "ann.json"), data_prefix={"img": str(here / "images")}
        )
        remote = dataset(here, data_root="s3://bucket")
        nothing = {"type": "D", "data_root": None, "data_prefix": {"img": ""}, "ann_file": ""}
        for one in (absolute, remote, nothing):
            require_files(config(here, train_dataloader={"dataset": one}))

    def test_several_loaders(self, here: Path) -> None:
        loaders = [{"dataset": dataset(here)}, {"dataset": dataset(here, ann_file="no.json")}]
        with pytest.raises(FileNotFoundError, match=r"`test_dataloader\[1\].dataset.ann_file`"):
            require_files(config(here, test_dataloader=loaders))


def image_set(root: Path, key: str = "caltech101", **kwargs) -> dict:
    return {"type": "subpt_dense.ImageSet", "set": key, "data_root": str(root)} | kwargs


def missing(cfg: dict) -> list[str]:
    """The lines between the first and the last."""
    with pytest.raises(FileNotFoundError) as caught:
        require_files(Config(cfg))
    return str(caught.value).splitlines()[1:-1]


class TestRequireImageSets:
    def test_each_path_and_where_the_set_is_to_be_had(self, tmp_path: Path) -> None:
        loader = {"dataset": image_set(tmp_path)}
        lines = missing({"train_dataloader": loader, "val_dataloader": {"dataset": {"dataset": loader["dataset"]}}})
        folder = f"  {tmp_path}/caltech-101"
        where = "`train_dataloader.dataset.set='caltech101'`"
        assert lines[:2] == [
            f"{folder}/split_zhou_Caltech101.json (no such file; {where})",
            f"{folder}/101_ObjectCategories (no such folder; {where})",
        ]
        assert len(lines) == 3 and lines[2].startswith("Caltech101 (caltech-101/): https://data.caltech.edu")

    @pytest.mark.parametrize(
        ("key", "part", "absent"),
        [
            ("fgvc_aircraft", "test", ["variants.txt", "images_variant_test.txt", "images"]),
            ("imagenet", "test", ["classnames.txt", "images/val"]),
            ("imagenet", "val", ["classnames.txt", "images/train"]),
            ("imagenet_r", "test", ["../imagenet/classnames.txt", "imagenet-r"]),
        ],
    )
    def test_a_part_needs_its_own(self, tmp_path: Path, key: str, part: str, absent: list[str]) -> None:
        lines = missing({"test_dataloader": {"dataset": image_set(tmp_path, key, part=part)}})
        folder = {"imagenet_r": "imagenet-rendition"}.get(key, key)
        assert [line.split(" (")[0].strip() for line in lines[:-1]] == [
            os.path.normpath(tmp_path / folder / path) for path in absent
        ]

    def test_is_silent_when_all_is_there(self, tmp_path: Path) -> None:
        for key in ("dtd", "imagenet", "imagenet_a"):
            write_set(tmp_path, key)
            require_files(Config({"test_dataloader": {"dataset": image_set(tmp_path, key, part="test")}}))

    def test_anchors_need_the_names_alone(self, tmp_path: Path) -> None:
        here = {"set": "dtd", "data_root": str(tmp_path)}
        names = {"generic": {"vocabulary": "imagenet", "exclude": here}, "heldout": {"split": here, "group": "novel"}}
        lines = missing({"model": {"language": {"names": names}}})
        file = f"{tmp_path}/dtd/split_zhou_DescribableTextures.json"
        assert lines[0] == f"  {file} (no such file; `model.language.names.generic.exclude.set='dtd'`)"
        assert len(lines) == 2 and lines[1].startswith("DTD (dtd/)")

    def test_plain_folders(self, tmp_path: Path) -> None:
        cfg = image_set(tmp_path, "folder", folders={"train": "a", "test": "b"}, split=str(tmp_path / "split.json"))
        write_folders(tmp_path, {"a": {"x": 1}})
        lines = missing({"train_dataloader": {"dataset": cfg}})
        assert [line.split(" (")[0].strip() for line in lines] == [f"{tmp_path}/split.json", f"{tmp_path}/b"]


class TestWriteJson:
    def test_replaces_whole_files_and_leaves_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "a.json"
        write_json(path, {"a": 1})
        write_json(path, {"a": [1, None]}, indent=2)
        assert path.read_text() == '{\n  "a": [\n    1,\n    null\n  ]\n}'
        assert os.listdir(path.parent) == ["a.json"]

    @pytest.mark.parametrize("content", [{"a": float("nan")}, {"a": object()}])
    def test_a_failure_leaves_the_old_file(self, tmp_path: Path, content: object) -> None:
        path = tmp_path / "a.json"
        write_json(path, [1])
        with pytest.raises((TypeError, ValueError)):
            write_json(path, content)
        assert path.read_text() == "[1]" and os.listdir(tmp_path) == ["a.json"]

    def test_others_may_read_it_as_the_umask_says(self, tmp_path: Path) -> None:
        write_json(tmp_path / "a.json", [])
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o666 & ~umask


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
