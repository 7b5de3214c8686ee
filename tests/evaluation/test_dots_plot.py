"""A dot a seed: the picture is written, methods that do not fit each other are refused."""

from pathlib import Path

import pytest
from PIL import Image

from subpt_dense.evaluation.dots_plot import plot_dots


def test_a_picture_as_high_as_there_are_methods(tmp_path: Path) -> None:
    sizes = []
    for count in (2, 8):
        out = tmp_path / "new" / f"{count}.png"
        plot_dots({f"text/m{i}": {"base": [1.0, 2.0], "novel": [3.0]} for i in range(count)}, out, label="AP50")
        sizes.append(Image.open(out).size)
    assert sizes[0][0] == sizes[1][0] and sizes[0][1] < sizes[1][1]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["2.png", "8.png"]


@pytest.mark.parametrize("scores", [{}, {"a": {"base": [1.0]}, "b": {"novel": [1.0]}}])
def test_refused(scores: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold methods with the same groups"):
        plot_dots(scores, tmp_path / "a.png")
