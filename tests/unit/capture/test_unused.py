"""What nothing reads is taken out, and named."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn

from packify.capture.unused import drop_unused, unused_tensors
from packify.nn.writes import store


def test_nodes_that_nothing_reads_go_with_what_only_they_read() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.placeholder("never_read")
    graph.call_function(torch.neg, (graph.call_function(torch.exp, (x,)),))
    buffer = graph.get_attr("buffer")
    graph.call_function(store, (buffer, graph.call_function(operator.add, (x, 1))))
    graph.call_module("part", (x,))
    written = graph.call_method("add_", (x, 1))
    written.meta["inplace"] = True
    reused = graph.call_method("mul_", (x, 1))
    reused.meta.update(inplace=True, out_of_place=None)
    graph.output(x)
    drop_unused(graph)
    assert [str(node.target) for node in graph.nodes if node.op.startswith("call")] == [str(operator.add), str(store), "part", "add_"]
    assert len(graph.find_nodes(op="placeholder")) == 2


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read, self.half_read, self.norm, self.called = nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)
        self.tied = nn.Linear(2, 2)
        self.tied.weight = self.read.weight
        self.own = nn.Parameter(torch.zeros(2))
        self.register_buffer("kept", torch.zeros(2))


def test_tensors_that_neither_mode_reads() -> None:
    graphs = []
    for names in (("read.weight", "half_read.weight"), ("read.weight", "read.bias")):
        graph = fx.Graph()
        graph.call_module("called", (graph.placeholder("x"),))
        graph.output(tuple(map(graph.get_attr, names)))
        graphs.append(graph)
    assert unused_tensors(_Net(), graphs) == {
        "half_read.bias",
        "tied.bias",  # its weight is read under another name
        "own",  # the module's own buffer stays: the module has parts
        *(f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    }
