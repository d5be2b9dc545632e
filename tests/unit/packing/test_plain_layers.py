"""Which layers are called as they are: those whose own forward runs what their small graph runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from packify.nn.block import Form
from packify.nn.layouts import Layout
from packify.nn.ports import Ports
from packify.packing.plain_layers import runs_its_own_forward
from packify.packing.small_graphs import SmallGraph

IMAGE = Layout(None, (5, 4, 6, 6), torch.float32)
TOKENS = Layout(None, (5, 4), torch.float32)


def _small(build: Callable[[fx.Graph, fx.Node], Any], layout: Layout) -> SmallGraph:
    graph = fx.Graph()
    graph.output(build(graph, graph.placeholder("x")))
    return SmallGraph(graph, {"x": layout}, Ports((layout,), {}, layout))


def _is_own(module: nn.Module, build: Callable[[fx.Graph, fx.Node], Any], layout: Layout = TOKENS) -> bool:
    small = _small(build, layout)
    return runs_its_own_forward(module, Form(small.graph, small.graph), small, 1)


def _linear(graph: fx.Graph, x: fx.Node) -> fx.Node:
    return graph.call_function(F.linear, (x, graph.get_attr("weight"), graph.get_attr("bias")))


def test_a_layer_whose_graph_is_its_forward() -> None:
    assert _is_own(nn.Linear(4, 3), _linear)
    assert not _is_own(nn.Linear(4, 3), lambda g, x: g.call_function(torch.relu, (_linear(g, x),)))
    assert not _is_own(nn.Linear(4, 3), lambda g, x: g.call_function(F.linear, (x, g.get_attr("weight"))))
    assert not _is_own(nn.Linear(4, 3), lambda g, x: x)


@pytest.mark.parametrize(("padding", "same"), [(1, True), (0, False)])
def test_other_numbers_are_another_call(padding: int, same: bool) -> None:
    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        return graph.call_function(F.conv2d, (x, graph.get_attr("weight"), graph.get_attr("bias"), (1, 1), (padding, padding)))

    assert _is_own(nn.Conv2d(4, 4, 3, padding=1), build, IMAGE) is same


def test_an_activation_writes_in_place_if_its_graph_does() -> None:
    plain, writing = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
    assert _is_own(plain, lambda g, x: g.call_function(torch.relu, (x,)))
    assert not plain.inplace
    assert _is_own(writing, lambda g, x: g.call_function(torch.relu_, (x,)))
    assert writing.inplace


def test_what_is_a_users_own_or_takes_nothing_is_never_called_as_it_is() -> None:
    class Own(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            return super().forward(input)

    assert not _is_own(Own(4, 3), _linear)
    small = _small(_linear, TOKENS)
    layer = nn.Linear(4, 3)
    assert not runs_its_own_forward(layer, Form(small.graph, small.graph), SmallGraph(small.graph, {}, small.call), 1)


def test_both_modes_are_compared() -> None:
    relu, tanh = (_small(lambda g, x, f=f: g.call_function(f, (x,)), TOKENS).graph for f in (torch.relu, torch.tanh))
    small = SmallGraph(relu, {"x": TOKENS}, Ports((TOKENS,), {}, TOKENS))
    assert runs_its_own_forward(nn.ReLU(), Form(relu, relu), small, 1)
    assert not runs_its_own_forward(nn.ReLU(), Form(relu, tanh), small, 1)
