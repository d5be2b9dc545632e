"""Graphs as code: the code computes what the graph does, and reads as a person would write it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from packify.nn.printing import Names, as_shown, body_of, parameter_name


class Pair(NamedTuple):
    left: Any
    right: Any


def _code(build: Callable[[fx.Graph, fx.Node], Any], hidden: Callable[[str], bool] = lambda name: False) -> tuple[str, Names, fx.Graph]:
    graph, names = fx.Graph(), Names()
    graph.output(build(graph, graph.placeholder("x")))
    body = body_of(graph, names, hidden)
    assert body.parameters == ["x"]
    return "\n".join(map(as_shown, body.lines)), names, graph


def _twice(code: str, names: Names, graph: fx.Graph, x: Any, root: nn.Module | None = None) -> tuple[Any, Any]:
    """What the code gives, and what the graph does."""
    root = nn.Module() if root is None else root
    namespace: dict[str, Any] = dict(names.objects)
    exec("def forward(self, x):\n" + "\n".join(f"    {line}" for line in code.splitlines()), namespace)
    return namespace["forward"](root, x), fx.Interpreter(root, graph=graph).run(x)


def _own(x: Any, *rest: Any, **named: Any) -> Any:
    return x, rest, named


def _squared(graph: fx.Graph, x: fx.Node) -> fx.Node:
    y = graph.call_function(torch.exp, (x,))
    return graph.call_function(operator.mul, (y, y))


DTYPE_AND_DEVICE = {"dtype": torch.float16, "device": torch.device("cpu")}
CODE: dict[str, tuple[Callable[[fx.Graph, fx.Node], Any], str]] = {
    "operators": (
        lambda g, x: g.call_function(operator.add, (g.call_function(operator.mul, (x, 2)), 0.5)),
        "mul = x * 2\nreturn mul + 0.5",
    ),
    "negative numbers": (lambda g, x: g.call_function(operator.sub, (x, -2.5)), "return x - (-2.5)"),
    "minus": (lambda g, x: g.call_function(operator.neg, (x,)), "return -x"),
    "methods": (lambda g, x: g.call_method("sum", (x, 0), {"keepdim": True}), "return x.sum(0, keepdim=True)"),
    "functions": (lambda g, x: g.call_function(torch.relu, (x,)), "return torch.relu(x)"),
    "functional": (lambda g, x: g.call_function(F.softplus, (x,), {"beta": 2}), "return F.softplus(x, beta=2)"),
    "attributes": (lambda g, x: g.call_function(getattr, (x, "T")), "return x.T"),
    "one position": (lambda g, x: g.call_function(operator.getitem, (x, 0)), "return x[0]"),
    "indices": (
        lambda g, x: g.call_function(operator.getitem, (x, (slice(None), None, slice(1, None, 2), Ellipsis))),
        "return x[:, None, 1::2, ...]",
    ),
    "an index of one": (lambda g, x: g.call_function(operator.getitem, (x, (slice(0, 1),))), "return x[0:1,]"),
    "an empty index": (lambda g, x: g.call_function(operator.getitem, (x, ())), "return x[()]"),
    "constants": (
        lambda g, x: g.call_function(_own, (x, (1,), [2, "a"], {"b": None}, slice(1, 2)), DTYPE_AND_DEVICE),
        "return own(x, (1,), [2, 'a'], {'b': None}, slice(1, 2, None), dtype=torch.float16, device=torch.device('cpu'))",
    ),
    "infinities": (lambda g, x: g.call_function(_own, (x, float("inf"), float("-inf"))), ""),
    "named tuples": (lambda g, x: g.call_function(_own, (x, Pair(x, 3))), "return own(x, Pair(x, 3))"),
    "a value read twice": (
        _squared,
        "exp = torch.exp(x)\nreturn exp * exp",
    ),
    "a result of several": (lambda g, x: (x, g.call_function(torch.exp, (x,))), "exp = torch.exp(x)\nreturn (x, exp)"),
    "what nobody reads": (lambda g, x: (g.call_function(torch.exp, (x,)), x)[1], "torch.exp(x)\nreturn x"),
}


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.equal(other)
    if isinstance(one, (tuple, list)):
        return isinstance(one, tuple) == isinstance(other, tuple) and len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return bool(one == other)


@pytest.mark.parametrize("name", CODE)
def test_code_computes_what_the_graph_does_and_reads_as_written(name: str) -> None:
    build, wanted = CODE[name]
    code, names, graph = _code(build)
    assert not wanted or code == wanted
    found, run = _twice(code, names, graph, torch.arange(12.0).view(3, 4))
    assert _equal(found, run)


def test_parts_are_reached_by_their_names_whatever_these_are() -> None:
    root = nn.Module()
    root.conv = nn.ModuleDict({"0": nn.Identity(), "in": nn.ReLU(), "extra_repr2": nn.Tanh()})

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        for part in ("0", "in", "extra_repr2"):
            x = graph.call_module(f"conv.{part}", (x,))
        return x

    code, names, graph = _code(build, hidden=lambda name: name == "extra_repr2")
    assert "getattr(self.conv, '0')(x)" in code
    assert "held(self.conv, 'extra_repr2')" in code
    found, run = _twice(code, names, graph, torch.randn(3), root)
    assert found.equal(run)


def test_variables_hide_no_object_and_no_word_of_pythons() -> None:
    def torch_(x: Tensor) -> Tensor:
        return x + 1

    torch_.__name__ = "torch"

    def build(graph: fx.Graph, x: fx.Node) -> fx.Node:
        made = graph.create_node("call_function", torch_, (x,), name="torch")
        again = graph.create_node("call_function", torch.exp, (made,), name="self")
        return graph.create_node("call_function", operator.add, (again, made), name="sum")

    code, names, graph = _code(build)
    found, run = _twice(code, names, graph, torch.zeros(2))
    assert found.equal(run)
    assert names.objects["torch"] is torch


def test_a_tensor_is_let_go_of_where_it_is_read_last() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    one = graph.call_function(torch.exp, (x,))
    two = graph.call_function(operator.mul, (one, one))
    graph.output(graph.call_function(torch.neg, (two,)))
    lines = body_of(graph, Names(), lambda name: False).lines
    assert [line.partition(";  del ")[2] for line in lines] == ["x", "exp", ""]


@pytest.mark.parametrize(
    ("wanted", "taken", "name"),
    [
        ("x", (), "x"),
        ("x", ("x", "x_"), "x__"),
        ("a.b-c", (), "a_b_c"),
        ("0", (), "_0"),
        ("self", (), "self_"),
        ("class", (), "class_"),
        ("", (), "value"),
    ],
)
def test_names_of_parameters(wanted: str, taken: tuple[str, ...], name: str) -> None:
    assert parameter_name(wanted, taken) == name
    assert name.isidentifier()
