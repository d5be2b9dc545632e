"""What a layer's weight is made of, and who else reads it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from packify.widths.weights import (
    argument,
    groups_of,
    is_read_elsewhere,
    piece_of,
    used_more_than_once,
    weight_is_computed,
    weight_name,
    weight_nodes,
    weight_sources,
)
from tests.unit.widths.small import analysed, graph_of, node_of

X = torch.randn(2, 4)


def _linear(forward: Any, **held: Any) -> Any:
    return node_of(analysed(forward, X, **held), "linear")


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


def test_a_parameter_is_a_weight_by_itself() -> None:
    node = _linear(lambda net, x: net.fc(x), fc=nn.Linear(4, 3))
    assert weight_name(node) == "fc.weight"
    assert weight_sources(node) == {"fc.weight"}
    assert weight_nodes(node) == {argument(node, "weight")}
    assert not weight_is_computed(node)
    assert not is_read_elsewhere(node)


def test_a_weight_that_one_parameter_of_its_shape_is_computed_to_has_its_name() -> None:
    node = _linear(lambda net, x: F.linear(x, net.w * net.gain / net.w.norm()), w=_weight(3, 4), gain=_weight(3, 1))
    assert weight_name(node) == "w"
    assert weight_sources(node) == {"w", "gain"}
    assert weight_is_computed(node)


def test_a_weight_of_two_parameters_of_its_shape_or_of_none_has_no_name() -> None:
    node = _linear(lambda net, x: F.linear(x, net.w + net.delta), w=_weight(3, 4), delta=_weight(3, 4))
    assert weight_name(node) is None
    assert weight_sources(node) == {"w", "delta"}
    node = _linear(lambda net, x: F.linear(x, net.a @ net.b), a=_weight(3, 1), b=_weight(1, 4))
    assert weight_name(node) is None
    node = _linear(lambda net, x: F.linear(x, net.w * x.mean()), w=_weight(3, 4))  # another for every input
    assert weight_name(node) is None


def test_groups() -> None:
    analysis = analysed(lambda net, x: net.b(net.a(x[..., None])), X, a=nn.Conv1d(4, 8, 1, groups=4), b=nn.Conv1d(8, 8, 1))
    assert [groups_of(node_of(analysis, "conv1d", number)) for number in (0, 1)] == [4, 1]
    assert groups_of(_linear(lambda net, x: net.fc(x), fc=nn.Linear(4, 3))) == 1


def test_weights_that_several_layers_of_one_graph_share() -> None:
    def forward(net: Any, x: Any) -> Any:
        return F.linear(net.b(net.a(net.a(x))), net.a.weight * 2)

    analysis = analysed(forward, X, a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    layers = [node for node in graph_of(analysis).nodes if node.meta["op"] == "linear"]
    assert used_more_than_once(layers) == {"a.weight"}
    other = analysed(lambda net, x: net.a(x), X, a=nn.Linear(4, 4))
    # the graphs of two modes have the same weights, and share none
    assert used_more_than_once([node_of(other, "linear"), layers[2]]) == set()


def test_what_reads_a_weight_beside_its_layer() -> None:
    norm = _linear(lambda net, x: (net.fc(x), net.fc.weight.norm()), fc=nn.Linear(4, 3))
    assert is_read_elsewhere(norm)
    size = _linear(lambda net, x: net.fc(x).view(-1, net.fc.weight.shape[0]), fc=nn.Linear(4, 3))
    assert not is_read_elsewhere(size)
    inside = _linear(lambda net, x: F.linear(x, net.w / net.w.norm()), w=_weight(3, 4))
    assert not is_read_elsewhere(inside)
    two = _linear(lambda net, x: F.linear(x, net.w[:3]) + F.linear(x, net.w[3:]), w=_weight(6, 4))
    assert is_read_elsewhere(two)


def _pieces(forward: Any, **held: Any) -> list[Any]:
    graph = graph_of(analysed(forward, X, **held))
    return [piece_of(node) for node in graph.nodes if str(node.meta.get("op")).startswith(("linear", "conv"))]


def test_pieces_of_one_weight_belong_to_a_layer_each() -> None:
    def chunked(net: Any, x: Any) -> Any:
        q, k, v = net.w.chunk(3)
        return F.linear(x, v) + F.linear(x, q) * F.linear(x, k)

    def uneven(net: Any, x: Any) -> Any:
        q, kv = net.w.split([2, 4])
        return F.linear(x, q).sum() + F.linear(x, kv)

    assert _pieces(chunked, w=_weight(6, 4)) == [("w", 2), ("w", 0), ("w", 1)]
    assert _pieces(uneven, w=_weight(6, 4)) == [("w", 0), ("w", 1)]
    nodes = [node for node in graph_of(analysed(chunked, X, w=_weight(6, 4))).nodes if node.meta.get("op") == "linear"]
    assert used_more_than_once(nodes) == set()
    assert [weight_name(node) for node in nodes] == ["w"] * 3
    assert not any(map(is_read_elsewhere, nodes))


def test_what_is_no_piece_of_a_weight() -> None:
    def columns(net: Any, x: Any) -> Any:
        a, b = net.w.chunk(2, dim=1)
        return F.linear(x[:, :2], a) + F.linear(x[:, 2:], b)

    def one_left(net: Any, x: Any) -> Any:
        return F.linear(x, net.w.chunk(2)[1])

    def twice(net: Any, x: Any) -> Any:
        a, b = net.w.chunk(2)
        return F.linear(F.linear(x, a) + F.linear(x, b), b)

    def read(net: Any, x: Any) -> Any:
        a, b = net.w.chunk(2)
        return F.linear(x, a) + F.linear(x, b) * net.w.norm()

    def grouped(net: Any, x: Any) -> Any:
        a, b = net.w[..., None].chunk(2)
        return F.conv1d(x[..., None], a, groups=2) + F.conv1d(x[..., None], b, groups=2)

    for forward, shape in ((columns, (4, 4)), (one_left, (8, 4)), (twice, (8, 4)), (read, (8, 4)), (grouped, (8, 2))):
        assert not any(_pieces(forward, w=_weight(*shape))), forward
