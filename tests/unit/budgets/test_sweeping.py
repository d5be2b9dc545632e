import csv
import io
import json
import sys

import pytest
import torch
from matplotlib.colors import to_rgb
from torch import nn

from packify import sweep
from packify.budgets import plot
from packify.budgets.plots import draw
from packify.core.errors import BudgetError

X = torch.zeros(2, 64)


@pytest.fixture(scope="module")
def model():
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


@pytest.fixture(scope="module")
def found(model):
    return sweep(model, X, alpha=[1, 2], num_estimators=[2, 4], gamma=[1, 2], gamma_policies=["paper", "uniform"])


def test_every_combination_once(found):
    specs = [(b.spec.alpha, b.spec.num_estimators, b.spec.gamma, b.spec.gamma_policy) for b in found.budgets]
    assert len(specs) == len(set(specs)) == 2 * 2 * 3
    assert specs[:3] == [(1, 2, 1, "paper"), (1, 2, 2, "paper"), (1, 2, 2, "uniform")]


def test_deep_ensembles_for_every_m(found):
    assert {count: cost.params for count, cost in found.deep_ensembles.items()} == {m: m * found.reference.params for m in (2, 4)}


def test_alpha_equal_to_m_is_the_deep_ensemble(found):
    same = next(b for b in found.budgets if b.spec.alpha == b.spec.num_estimators == 2 and b.spec.gamma == 1)
    assert (same.packed.params, same.packed.mult_adds) == (found.deep_ensembles[2].params, found.deep_ensembles[2].mult_adds)


def test_rows_and_csv(found):
    rows = found.rows()
    read = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(read) == len(rows) == len(found.budgets)
    assert [int(row["params"]) for row in read] == [budget.packed.params for budget in found.budgets]
    assert json.loads(json.dumps(found.to_dict()))["rows"] == rows


def test_progress(model):
    seen = []
    sweep(model, X, alpha=[1, 2], num_estimators=[2], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("name", ["alpha", "num_estimators", "gamma", "gamma_policies"])
def test_an_empty_list_is_refused(model, name):
    options = {"alpha": [1], "num_estimators": [2], "gamma": [1], "gamma_policies": ["paper"]} | {name: []}
    with pytest.raises(BudgetError, match=f"{name}\n.*no value"):
        sweep(model, X, **options)


def test_the_picture_is_written(found, tmp_path):
    for name in ("a.png", "b.svg", "c.PDF"):
        assert plot(found, tmp_path / name).stat().st_size > 1000


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


def test_one_value_needs_no_list(model):
    assert len(sweep(model, X, alpha=2, num_estimators=4).budgets) == 1


def test_a_text_is_no_list(model):
    with pytest.raises(BudgetError, match=r"num_estimators\n.*'2,4'"):
        sweep(model, X, alpha=2, num_estimators="2,4")
