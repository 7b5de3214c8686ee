import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.datasets.image_files import write_set

FILE = Path(__file__).parents[2] / "tools" / "check_data.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_data", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_says_what_is_there_and_where_the_rest_is_to_be_had(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(tmp_path, "eurosat", pixels=True)
    assert tool.main(["eurosat", "dtd", "--root", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if "eurosat" in line and "│" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "eurosat", "found (see below)", "5", "30 of 13,500", "25 of 5,400", "15 of 8,100",
    ]  # fmt: skip
    assert f"{tmp_path}/dtd/split_zhou_DescribableTextures.json: no such file" in text
    assert f"{tmp_path}/dtd/images: no such folder" in text
    assert "Get it: https://www.robots.ox.ac.uk/~vgg/data/dtd/" in text and "Note: 5 classes, published: 10." in text


def test_exit_status_and_json(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_set(tmp_path, "eurosat", pixels=True)
    out = tmp_path / "out" / "found.json"
    assert tool.main(["eurosat", "--root", str(tmp_path), "--images", "--json", str(out)]) == 0
    (report,) = json.loads(out.read_text())
    assert (report["name"], report["state"], report["images"]["test"]) == ("eurosat", "found", 15)
    (tmp_path / "eurosat" / "2750" / "class_1" / "test_2.jpg").unlink()
    assert tool.main(["eurosat", "--root", str(tmp_path)]) == 0
    assert tool.main(["eurosat", "--root", str(tmp_path), "--images"]) == 1
    (tmp_path / "eurosat" / "split_zhou_EuroSAT.json").write_text("[]")
    assert tool.main(["eurosat", "--root", str(tmp_path)]) == 1
    assert "malformed" in capsys.readouterr().out


def test_without_a_name_all_are_looked_for(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(["--root", str(tmp_path)]) == 1
    assert capsys.readouterr().out.count("Get it: ") == 15 + 9  # classification, segmentation


def test_an_unknown_set_is_refused(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        tool.main(["caltech101", "caltech-101", "pc60"])
    text = capsys.readouterr().err
    assert stopped.value.code == 2 and "Got 'caltech-101', 'pc60'." in text
    for known in ("caltech101", "ucf101", "voc_zss", "pc59", "ade847"):
        assert f" {known}" in text


def test_names_are_listed_of_label_maps_only(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        tool.main(["pc59", "dtd", "--names"])
    assert stopped.value.code == 2 and "`--names` must be of segmentation sets: voc_zss" in capsys.readouterr().err
