"""The picture of the curves: what it draws, by the drawn lines, and what is refused."""

import cv2
import numpy as np
import pytest

from subpt_dense.evaluation import curves_plot
from subpt_dense.evaluation.curves_plot import plot_bands


def curve(level, seeds=3, epochs=(1, 2, 3, 4)):
    rows = [[level + seed + 0.5 * epoch for epoch in epochs] for seed in range(seeds)]
    return {"epoch": list(epochs), "base": rows, "novel": [[70.0] * len(epochs)] * seeds, "h": rows}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures = []
    save = curves_plot.save_figure
    monkeypatch.setattr(curves_plot, "save_figure", lambda figure, out: (figures.append(figure), save(figure, out)))
    return figures


def test_lines_are_means_and_bands_are_deviations(tmp_path, drawn):
    plot_bands(
        {"template": curve(60, 1, (0,)), "coop": curve(50)}, tmp_path / "new" / "curves.png", title="three seeds"
    )
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["curves.png"]
    picture = cv2.imread(str(tmp_path / "new" / "curves.png"))
    assert picture.shape[0] > 500 and picture.std() > 10
    base = drawn[0].axes[0]
    level, line = base.get_lines()
    assert level.get_xydata().tolist() == [[0, 60], [4, 60]]
    np.testing.assert_allclose(line.get_ydata(), [51.5, 52, 52.5, 53])
    (band,) = base.collections
    low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    np.testing.assert_allclose([low, high], [51.5 - 1, 53 + 1])
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["template", "coop"]


def test_one_seed_has_no_band(tmp_path, drawn):
    plot_bands({"coop": curve(50, seeds=1)}, tmp_path / "curves.png")
    assert not drawn[0].axes[0].collections


def test_refused(tmp_path):
    with pytest.raises(ValueError, match="must hold at least one head"):
        plot_bands({}, tmp_path / "curves.png")
    broken = {**curve(50), "novel": [[1.0, 2.0]] * 3}
    with pytest.raises(ValueError, match=r"`novel` of head 'coop' must hold 4 scores a seed, .*Got \[2\]\."):
        plot_bands({"coop": broken}, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
