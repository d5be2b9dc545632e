import sys

import pytest
from matplotlib.colors import to_rgb

from packify.budgets import plot
from packify.budgets.plots import draw
from packify.core.errors import BudgetError


@pytest.mark.slow
def test_the_picture_is_written(found, tmp_path):
    for name in ("a.png", "b.svg", "c.PDF"):
        assert plot(found, tmp_path / name).stat().st_size > 1000


@pytest.mark.slow
def test_the_legend_stands_outside_the_axes_and_labels_inside_the_picture(found):
    figure = draw(found, "title")
    figure.canvas.draw()
    axes = figure.axes[0]
    inside = axes.get_window_extent()
    assert axes.get_legend().get_window_extent().x0 >= inside.x1
    assert axes.get_legend().get_window_extent().x1 <= figure.bbox.x1


def test_every_point_and_landmark_is_drawn_without_colour(found):
    axes = draw(found).axes[0]
    points = sum(len(line.get_xdata()) for line in axes.get_lines())
    assert points == len(found.budgets) + 1 + len(found.deep_ensembles)
    for line in axes.get_lines():
        for colour in (line.get_markerfacecolor(), line.get_markeredgecolor(), line.get_color()):
            red, green, blue = to_rgb(colour)
            assert red == green == blue


def test_an_unknown_format_and_a_missing_folder_are_refused(found, tmp_path):
    with pytest.raises(BudgetError, match="png, pdf or svg"):
        plot(found, tmp_path / "a.xyz")
    with pytest.raises(BudgetError, match="cannot be written"):
        plot(found, tmp_path / "nowhere" / "a.png")


def test_without_matplotlib_the_error_says_how_to_get_it(found, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BudgetError, match=r'pip install "packify-torch\[plot\]"'):
        plot(found, tmp_path / "a.png")
