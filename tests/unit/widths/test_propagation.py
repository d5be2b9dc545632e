"""One walk: every axis gets a dim, every operator equates what must stay equal, and what has no rule keeps its sizes and says why."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from packify import PackError
from packify.capture.graphs import record_graphs
from packify.ops.table import RULES
from packify.widths.analysis import WidthAnalysis
from packify.widths.dims import fixed, free
from packify.widths.propagation import Axes, Parameters, makers_of_weights, tensors
from tests.unit.widths.small import analysed, dims_of, graph_of, node_of

X = torch.randn(2, 4)


def _axes(*shape: int) -> Axes:
    dims = [fixed(1) if size == 1 else free(size) for size in shape]
    return Axes(dims, torch.zeros(shape, device="meta"))


def _walk() -> Any:
    analysis = analysed(lambda net, x: net.fc(x), X, fc=nn.Linear(4, 3))
    return next(iter(analysis.propagations.values()))


def test_broadcasting_equates_what_meets_and_takes_the_other_side_of_a_one() -> None:
    walk = _walk()
    a, b, c = _axes(5, 1, 6), _axes(4, 6), _axes(1)
    result = walk.broadcast(a, [b, {"c": c}])
    assert [dim.root().size for dim in result] == [5, 4, 6]
    assert result[0] is a.dims[0]
    assert result[1] is b.dims[0]
    assert a.dims[2].root() is b.dims[1].root() is result[2].root()


def test_structure_has_dims_that_cannot_change_nested_as_the_value_is() -> None:
    walk = _walk()
    one, (two, nothing) = walk.structure((torch.zeros(2, 3), [torch.zeros(4), 5]))
    assert [dim.root().size for dim in (*one, *two)] == [2, 3, 4]
    assert all(dim.is_pinned() for dim in (*one, *two))
    assert nothing is None


def test_inputs_and_outputs_are_pinned_and_say_so() -> None:
    analysis = analysed(lambda net, x: net.b(net.a(x)), X, a=nn.Linear(4, 6), b=nn.Linear(6, 3))
    dims = analysis.parameters.dims
    rows, columns = dims["b.weight"][0].root(), dims["a.weight"][1].root()
    assert rows.pin.why == "the output keeps the reference's shape"
    assert columns.pin.why == "an axis of the input"
    assert dims["a.weight"][0].root() is dims["b.weight"][1].root() is dims["a.bias"][0].root()
    assert not dims["a.weight"][0].is_pinned()
    assert dims["a.weight"][0].root().demands == ["a"]


def test_an_operator_without_a_rule_keeps_the_sizes_that_it_reads() -> None:
    rules = {**RULES, "relu": dataclasses.replace(RULES["relu"], widths=None)}
    analysis = analysed(lambda net, x: net.b(net.a(x).relu()), X, rules, a=nn.Linear(4, 6), b=nn.Linear(6, 3))
    (pinned,) = {dim.root() for dim in analysis.parameters.dims["a.bias"]}
    assert pinned.pin.why == "relu has no rule for widths"
    assert "test_propagation.py:" in pinned.pin.source


def test_a_module_without_a_rule_keeps_its_parameters() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight

    model = nn.Sequential(nn.Linear(4, 6), Whole(), nn.Linear(6, 3))
    analysis = WidthAnalysis(record_graphs(model, X, leaves=(Whole,)), RULES)
    assert analysis.parameters.dims["1.weight"][0].is_pinned()
    assert analysis.parameters.dims["0.weight"][0].root().pin.why == "Whole has no rule for widths"


def test_a_rule_that_raises_is_an_error_that_names_the_call() -> None:
    def widths(propagation: Any, x: Any) -> Any:
        raise KeyError("axis")

    rules = {**RULES, "relu": dataclasses.replace(RULES["relu"], widths=widths)}
    with pytest.raises(PackError, match="KeyError: 'axis'") as caught:
        analysed(lambda net, x: net.a(x).relu(), X, rules, a=nn.Linear(4, 6))
    assert "relu called as" in caught.value.found


def test_which_tensors_are_weights_and_which_are_learned() -> None:
    seen: dict[str, tuple[bool, bool]] = {}

    def watched(name: str) -> Any:
        def widths(propagation: Any, x: Any) -> Any:
            seen[name] = (x.weight, x.learned)
            return x.dims

        return dataclasses.replace(RULES[name], widths=widths)

    rules = {**RULES, **{name: watched(name) for name in ("relu", "abs", "sigmoid", "tanh")}}

    def forward(net: Any, x: Any) -> Any:
        weight = (net.w * 2).abs()
        table = (net.table + 1).sigmoid()
        return F.linear(x.relu() * table, weight).tanh()

    analysed(forward, X, rules, w=nn.Parameter(torch.ones(3, 4)), table=nn.Buffer(torch.ones(4)))
    assert seen == {"abs": (True, True), "sigmoid": (True, False), "relu": (False, False), "tanh": (False, False)}


def test_a_layer_that_makes_a_weight_does_not_ask_for_a_width() -> None:
    def forward(net: Any, x: Any) -> Any:
        return F.linear(net.a(x), net.maker(net.code).view(3, 6))

    analysis = analysed(forward, X, a=nn.Linear(4, 6), maker=nn.Linear(5, 18), code=nn.Parameter(torch.ones(5)))
    graph = graph_of(analysis)
    maker = next(node for node in graph.nodes if node.meta["path"] == "maker" and node.meta["op"] == "linear")
    assert makers_of_weights(graph, RULES) == {maker}
    assert "maker" not in [asker for root in analysis.roots for asker in root.demands]


def test_tied_tensors_share_their_dims_and_whole_numbers_are_structure() -> None:
    model = nn.Module()
    model.a, model.b = nn.Linear(4, 6), nn.Linear(4, 6)
    model.b.weight = model.a.weight
    model.register_buffer("index", torch.arange(6))
    model.register_buffer("grid", torch.ones(1, 6, dtype=torch.complex64))
    found = Parameters(model, {"constant": torch.zeros(6)}, frozenset())
    assert found.dims["a.weight"] is found.dims["b.weight"]
    assert found.dims["index"][0].is_pinned()
    assert not found.dims["constant"][0].is_pinned()
    assert [dim.is_pinned() for dim in found.dims["grid"]] == [True, False]
    assert found.learned == {"a.weight", "a.bias", "b.weight", "b.bias"}


def test_tensors_in_nested_arguments() -> None:
    one, two = (Axes([], torch.zeros(())) for _ in range(2))
    assert tensors(({"a": [one]}, 3, (two,))) == [one, two]


def test_the_dims_of_outputs_of_several_tensors() -> None:
    analysis = analysed(lambda net, x: net.a(x).chunk(2, -1)[0] * 1, X, a=nn.Linear(4, 6))
    first, second = dims_of(analysis, node_of(analysis, "chunk"))
    assert [dim.root().size for dim in first] == [dim.root().size for dim in second] == [5, 3]  # recorded at a batch of 5
