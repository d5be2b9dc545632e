"""The report's lines about initial weights: one per kind of layer."""

from __future__ import annotations

from torch import nn

from packify.core.report import KindScheme
from packify.nn.kinds import schemes_by_kind


def test_one_line_a_kind_the_most_numerous_first_with_the_odd_ones_by_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2), nn.Conv1d(1, 1, 1), nn.LayerNorm(2, bias=False))
    labels = {name: "uniform" if name.endswith("weight") else "constant 0" for name, _ in model.named_parameters()}
    labels["1.weight"] = "normal"
    del labels["4.weight"]
    assert schemes_by_kind(model, labels) == [
        KindScheme("Linear bias", "constant 0", 3, {}),
        KindScheme("Linear weight", "uniform", 3, {"1.weight": "normal"}),
        KindScheme("Conv1d bias", "constant 0", 1, {}),
        KindScheme("Conv1d weight", "uniform", 1, {}),
    ]


def test_tied_parameters_are_told_by_the_names_that_are_given() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    assert schemes_by_kind(model, {"1.weight": "x"}) == [KindScheme("Linear weight", "x", 1, {})]
