import json

import pytest
from PIL import Image

from subpt_dense.toyworld.curves import plot_curves, read_curve


def write_run(work_dir, stamp, points):
    file = work_dir / stamp / "vis_data" / "scalars.json"
    file.parent.mkdir(parents=True)
    lines = [{"loss": 1.0, "step": 20}]
    lines += [{"coco/base_ap50": base, "coco/novel_ap50": novel, "step": step} for step, base, novel in points]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_read_curve_takes_the_newest_run_with_validations(tmp_path):
    write_run(tmp_path, "20240101_000000", [(100, 0.1, 0.2), (200, 0.3, 0.4)])
    write_run(tmp_path, "20240102_000000", [(100, 0.5, 0.25), (200, 0.75, 0.5)])
    write_run(tmp_path, "20240103_000000", [(0, 0.9, 0.9)])  # a test run
    assert read_curve(tmp_path) == {"step": [100, 200], "base": [50, 75], "novel": [25, 50]}


def test_no_validations(tmp_path):
    write_run(tmp_path, "20240101_000000", [])
    with pytest.raises(FileNotFoundError, match="must hold a run with validations. Found none"):
        read_curve(tmp_path)


def test_plot_curves(tmp_path):
    for head in ("coop", "nfl"):
        write_run(tmp_path / head, "1", [(100, 0.1, 0.2), (200, 0.3, 0.4)])
    plot_curves({head: tmp_path / head for head in ("coop", "nfl")}, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 600 and len(set(picture.convert("RGB").resize((200, 120)).get_flattened_data())) > 20
