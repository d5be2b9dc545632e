"""Graphs as Python code that a person can read."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from packify.nn.printing import Names, body_of, parameter_name, without_frees


def _lines(graph: fx.Graph) -> list[str]:
    return [without_frees(line) for line in body_of(graph, Names(), lambda name: name == "forward").lines]


def test_arithmetic_indices_and_calls() -> None:
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    total = graph.call_function(operator.add, (x, graph.call_function(operator.mul, (y, -2.5))))
    part = graph.call_function(operator.getitem, (total, (slice(None), slice(1, None), 0, None, Ellipsis)))
    negative = graph.call_function(operator.neg, (part,))
    kind = graph.call_function(getattr, (x, "dtype"))
    cast = graph.call_method("to", (negative, kind))
    graph.output((graph.call_function(F.relu, (cast,), {"inplace": False}), {"size": graph.call_method("size", (x, 0))}))
    assert _lines(graph) == [
        "mul = y * (-2.5)",
        "add = x + mul",
        "getitem = add[:, 1:, 0, None, ...]",
        "neg = -getitem",
        "getattr_1 = x.dtype",
        "to = neg.to(getattr_1)",
        "relu = F.relu(to, inplace=False)",
        "size = x.size(0)",
        "return (relu, {'size': size})",
    ]


def test_names_that_python_or_the_class_have_taken() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output([graph.call_module("class.forward.0", (x,)), graph.call_function(max, (x, float("inf")))])
    names = Names()
    body = body_of(graph, names, lambda name: name == "forward")
    assert "held(getattr(self, 'class'), 'forward')" in body.lines[0]
    assert names.objects["held"] is nn.Module.__getattr__
    assert names.objects["inf"] == float("inf")
    assert parameter_name("self", []) == "self_"
    assert parameter_name("in", ["in_"]) == "in__"
    assert parameter_name("3d shape", []) == "_3d_shape"


def test_tensors_are_let_go_where_they_are_read_last() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    first = graph.call_function(torch.neg, (x,))
    second = graph.call_function(torch.neg, (first,))
    graph.output(graph.call_function(torch.add, (second, second)))
    lines: Any = body_of(graph, Names(), lambda _: False).lines
    assert lines == ["neg = torch.neg(x);  del x", "neg_1 = torch.neg(neg);  del neg", "return torch.add(neg_1, neg_1)"]
