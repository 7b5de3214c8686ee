from pathlib import Path

import numpy as np
import pytest

from subpt_dense.datasets.check_semantic import SEMANTIC_SETS, check_semantic
from tests.datasets.semantic_files import image, write_set
from tests.tools.load_tool import load_tool


@pytest.mark.parametrize("name", SEMANTIC_SETS)
class TestEverySet:
    def test_found_with_remarks_on_its_size(self, tmp_path: Path, name: str) -> None:
        write_set(tmp_path, name)
        report = check_semantic(name, tmp_path, images=True)
        assert (report.state, report.problems) == ("found", [])
        assert set(report.images.values()) == {2} and len(report.remarks) == len(report.images)
        assert "published: " in report.remarks[0]

    def test_missing(self, tmp_path: Path, name: str) -> None:
        report = check_semantic(name, tmp_path)
        assert report.state == "missing" and report.images == {} and report.classes is None
        assert all("no such" in line and str(tmp_path) in line for line in report.problems) and report.source

    def test_a_foreign_number(self, tmp_path: Path, name: str) -> None:
        info = SEMANTIC_SETS[name]
        root = write_set(tmp_path, name)
        part, where = next(iter(info.parts.items()))
        path = root / where.maps / f"{part}_1{info.map_suffix}"
        number = {255: 254, 65_535: 1_000}[info.ignored]
        image(path, np.full((2, 2), number, np.uint8 if number < 255 else np.uint16))
        report = check_semantic(name, tmp_path)
        assert report.state == "malformed" and f"{path}: numbers {number} are of none" in report.problems[0]


class TestOneSet:
    def test_missing_maps_are_counted(self, tmp_path: Path) -> None:
        root = write_set(tmp_path, "voc_zss", count=8)
        for k in range(7):
            (root / "SegmentationClass" / f"val_{k}.png").unlink()
        report = check_semantic("voc_zss", tmp_path)
        assert report.state == "missing" and len(report.problems) == 1
        assert "7 of 8 label maps of `val` are not in" in report.problems[0] and "and 2 more" in report.problems[0]

    @pytest.mark.parametrize(
        ("content", "message"), [(b"", "UnidentifiedImageError"), (None, "mode 'RGB' has colours")]
    )
    def test_a_map_that_is_none(self, tmp_path: Path, content: bytes | None, message: str) -> None:
        path = write_set(tmp_path, "ade150") / "annotations" / "validation" / "val_0.png"
        image(path) if content is None else path.write_bytes(content)
        report = check_semantic("ade150", tmp_path)
        assert report.state == "malformed" and str(path) in report.problems[0] and message in report.problems[0]

    def test_the_background_counts_where_it_is_a_class(self, tmp_path: Path) -> None:
        write_set(tmp_path, "context60_zss")
        found = {name: check_semantic(name, tmp_path) for name in ("context60_zss", "context_zss", "pc59")}
        assert {name: (report.state, report.classes) for name, report in found.items()} == {
            "context60_zss": ("found", 60), "context_zss": ("found", 59), "pc59": ("found", 59),
        }  # fmt: skip
        assert set(found["pc59"].images) == {"val"} != set(found["context60_zss"].images)

    def test_a_few_maps_are_opened_or_all(self, tmp_path: Path) -> None:
        root = write_set(tmp_path, "ade150", count=6)
        (root / "annotations" / "validation" / "val_5.png").write_bytes(b"")
        calls: list[tuple[int, int]] = []
        assert check_semantic("ade150", tmp_path).state == "found"
        checked = check_semantic("ade150", tmp_path, images=True, progress=lambda *at: calls.append(at))
        assert checked.state == "malformed" and calls == [(6, 6)]

    def test_an_empty_folder_is_missing_data(self, tmp_path: Path) -> None:
        root = write_set(tmp_path, "ade150")
        for path in (root / "images" / "validation").iterdir():
            path.unlink()
        report = check_semantic("ade150", tmp_path)
        assert report.state == "missing" and "All images of `val` are not in" in report.problems[0]

    def test_an_unknown_set(self) -> None:
        with pytest.raises(ValueError, match="must be one of voc_zss, .* Got 'ade'"):
            check_semantic("ade")


def test_the_command_reports_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_set(tmp_path, "voc20")
    assert load_tool("check_data").main(["voc20", "--root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "voc20" in text and "2 of 1,449" in text
    assert load_tool("check_data").main(["voc_zss", "--root", str(tmp_path)]) == 1
    assert "prepare_data.py voc-zss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("ade150", ["1: wall", "24: sofa; also: couch, lounge"]),
        ("ade847", ["0: wall", "846: adding machine; also: totalizer, totaliser"]),
        ("voc_zss", ["1: aeroplane (seen)", "16: potted plant (unseen)"]),
        ("context60_zss", ["0: background (seen)", "1: aeroplane (unseen)", "59: wood (seen)"]),
        ("context_zss", ["1: aeroplane (unseen)", "59: wood (seen)"]),
    ],
)
def test_the_command_lists_names(
    name: str, lines: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_tool("check_data").main([name, "--root", str(tmp_path), "--names"])
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in printed if line in lines] == lines
