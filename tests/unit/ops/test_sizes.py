"""Sizes that code reads from one tensor and gives to another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn

from packify.ops.sizes import resized, resolution, size_as_read
from packify.widths.dims import free
from tests.unit.ops.single import dims_of, single
from tests.unit.widths.small import analysed, node_of
from tests.unit.widths.small import dims_of as dims_in

X = torch.randn(2, 4, 6)


@pytest.mark.parametrize(
    "read",
    [
        lambda net, h: torch.zeros(h.shape[0], h.size(1), h.shape[-1]) + 1,
        lambda net, h: torch.zeros(h.shape) + 1,
        lambda net, h: h.new_zeros(h.size()).expand(h.size()) + 1,
    ],
)
def test_what_a_shape_is_read_from_is_the_axis_of_what_it_is_given_to(read: Any) -> None:
    def forward(net: Any, x: Any) -> Any:
        h = net.a(x)
        return net.b(h + read(net, h))

    analysis = analysed(forward, X, a=nn.Linear(6, 8), b=nn.Linear(8, 3))
    assert not analysis.parameters.dims["a.bias"][0].is_pinned()


def test_products_of_sizes_are_read_as_products() -> None:
    def forward(net: Any, x: Any) -> Any:
        h = net.a(x)
        return net.b(h.reshape(-1, 2 * h.shape[1] * h.shape[2] // 2 // h.shape[1]))

    analysis = analysed(forward, X, a=nn.Linear(6, 8), b=nn.Linear(8, 3))
    walk = next(iter(analysis.propagations.values()))
    width = dims_in(analysis, node_of(analysis, "linear"))[-1].root()
    for node in analysis.recorded.graphs["eval"].nodes:
        if node.meta["op"] == "mul" and isinstance(node.meta["val"], int):
            read = size_as_read(walk, node)
            assert read is not None
            assert read.root().size == node.meta["val"]
    assert size_as_read(walk, 8) is None
    assert not width.is_pinned()


def test_a_resolution_is_structure_unless_a_layer_has_it_as_its_width() -> None:
    walk, _ = dims_of(single(torch.relu, torch.ones(3)))
    plain, width, other = free(7), free(7), free(7)
    width.demands.append("a layer")
    found = resolution(walk, [plain, width, other], [7, 7, 5])
    assert plain.is_pinned()
    assert found[0].is_pinned()
    assert found[1] is width
    assert not width.is_pinned()
    assert found[2].root().size == 5
    through = free(7)
    assert resolution(walk, [through], [7], [1]) == [through]  # a kernel of one looks at each position alone


@pytest.mark.parametrize(("value", "wanted"), [(8, 4), (8, 6), (3, 3), (5, 7), (6, 12)])
def test_a_size_that_the_graph_computes_is_scaled(value: int, wanted: int) -> None:
    graph = fx.Graph()
    size = graph.placeholder("size")
    size.meta = {"val": value, "op": "size"}
    made = resized(size, value, wanted)
    graph.output(made)
    run = fx.GraphModule(nn.Module(), graph)
    assert run(value) == made.meta["val"] == wanted
    assert run(10 * value) == 10 * wanted  # a batch of ten in it stays


def test_a_size_that_is_a_number_is_exchanged() -> None:
    assert resized(8, 8, 4) == 4
    graph = fx.Graph()
    assert resized(graph.placeholder("size"), 0, 4) == 4
