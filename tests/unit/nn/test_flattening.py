"""Small graphs put together again are the flat graph."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from packify.capture.graphs import RecordedGraphs
from packify.nn.block import Form
from packify.nn.flattening import flat_again
from packify.packing.nesting import nest
from tests.unit.packing.trees import Network, recorded


def _flat(found: RecordedGraphs, mode: str) -> fx.Graph:
    graphs = {**found.graphs, "independent_eval": found.graphs["eval"], "independent": found.graphs["train"]}
    parts = nest(graphs, found.calls, found.root, 1)
    return flat_again(parts.roots["shared"], parts.blocks | parts.layers, mode)


def test_what_is_called_is_called_once_and_in_order() -> None:
    torch.manual_seed(0)
    model, x = Network().eval(), torch.randn(3, 4)
    found = recorded(model, x)
    again = _flat(found, "eval")
    calls = [
        [str(node.target) for node in graph.nodes if node.op.startswith("call") and node.target not in ("size", operator.getitem)]
        for graph in (found.graphs["eval"], again)
    ]
    assert calls[0] == calls[1]
    result = fx.Interpreter(model, graph=again).run(x)
    torch.testing.assert_close(result[0] if isinstance(result, (tuple, list)) else result, model(x))


def _graph(*calls: Any) -> fx.Graph:
    graph = fx.Graph()
    value = graph.placeholder("x")
    for call in calls:
        value = call(graph, value)
    graph.output(value)
    return graph


def test_modes_and_forms_are_chosen_as_the_blocks_choose_them() -> None:
    neg, exp, sin = (_graph(lambda g, x, f=f: g.call_function(f, (x,))) for f in (torch.neg, torch.exp, torch.sin))
    root = _graph(
        lambda g, x: g.call_module("a", (x,), {"form": 1}), lambda g, x: g.call_module("a", (x,)), lambda g, x: g.call_module("b", (x,))
    )
    parts = {"a": (Form(neg, neg), Form(exp, sin))}
    for mode, functions in (("eval", [torch.exp, torch.neg]), ("train", [torch.sin, torch.neg])):
        flat = flat_again(Form(root, root), parts, mode)
        assert [node.target for node in flat.nodes if node.op.startswith("call")] == [*functions, "b"]


def test_names_are_those_in_the_whole_network() -> None:
    inner = _graph(lambda g, x: g.call_function(torch.mul, (x, g.get_attr("weight"))))
    outer = _graph(lambda g, x: g.call_module("inner", (x,)))
    root = _graph(lambda g, x: g.call_module("outer", (x,)))
    flat = flat_again(Form(root, root), {"outer": (Form(outer, outer),), "outer.inner": (Form(inner, inner),)}, "eval")
    assert [str(node.target) for node in flat.nodes if node.op == "get_attr"] == ["outer.inner.weight"]
