"""Graphs broken by hand, and what the check says of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn

from packify.capture.graphs import record_graphs
from packify.core.errors import GraphBroken
from packify.core.graph_check import check_graph


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(self.one(x)).relu()


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = _Block(), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(self.block(x)) * 2)


def _recorded() -> fx.Graph:
    return record_graphs(_Net(), torch.randn(3, 4)).graphs["eval"]


def _node(graph: fx.Graph, op: str) -> fx.Node:
    return next(node for node in graph.nodes if node.meta["op"] == op)


def test_a_recorded_graph_holds() -> None:
    check_graph(_recorded(), "recording")


def test_every_node_knows_the_module_calls_it_was_emitted_in() -> None:
    calls = [(node.meta["op"], node.meta["stack"]) for node in _recorded().nodes if node.op.startswith("call")]
    first, second = ("block", 0), ("block", 1)
    assert calls == [
        ("linear", (first, ("block.one", 0))),
        ("BatchNorm1d", (first, ("block.norm", 0))),
        ("relu", (first,)),
        ("add", (first,)),
        ("linear", (second, ("block.one", 1))),
        ("BatchNorm1d", (second, ("block.norm", 1))),
        ("relu", (second,)),
        ("add", (second,)),
        ("mul", ()),
        ("linear", (("head", 0),)),
    ]


def test_a_direct_call_of_forward_is_no_call_of_the_module() -> None:
    class Direct(_Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.block.forward(x)

    graph = record_graphs(Direct(), torch.randn(3, 4)).graphs["eval"]
    assert _node(graph, "relu").meta["stack"] == ()
    assert _node(graph, "relu").meta["path"] == "block"
    assert _node(graph, "linear").meta["stack"] == (("block.one", 0),)


@pytest.mark.parametrize("key", ["op", "path", "source", "stack", "val", "inplace"])
def test_a_node_without_a_stamp(key: str) -> None:
    graph = _recorded()
    del _node(graph, "mul").meta[key]
    with pytest.raises(GraphBroken, match=f"without {key}"):
        check_graph(graph, "recording")


def test_a_node_with_the_stamp_of_a_call_that_has_ended() -> None:
    graph = _recorded()
    _node(graph, "mul").meta["stack"] = (("block", 0),)
    with pytest.raises(GraphBroken, match="after one of them has ended"):
        check_graph(graph, "recording")


def test_a_node_that_reads_a_later_one() -> None:
    graph = _recorded()
    first, last = _node(graph, "relu"), _node(graph, "mul")
    first.args = (last,)
    with pytest.raises(GraphBroken, match=r"refuses|before"):
        check_graph(graph, "recording")


class _Cached(nn.Module):
    """Code that asks for the network's dtype, and for sizes, in one module and uses them in others."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> Any:
        rows = x.shape[0] * 2
        x = self.one(torch.zeros(2, 4, dtype=x.dtype) + x[:1])
        x = self.two(torch.ones(2, 4, dtype=x.dtype) + x)
        return x.reshape(2, -1).chunk(2)[1] * rows


def test_nodes_that_are_made_late_are_stamped_where_they_are_made() -> None:
    graph = record_graphs(_Cached(), torch.randn(3, 4)).graphs["eval"]
    check_graph(graph, "recording")
    assert {node.meta["stack"] for node in graph.nodes if node.meta["op"] in ("getitem", "size", "dtype", "mul")} == {()}
