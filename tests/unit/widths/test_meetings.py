"""The sizes that a number in a graph meets, by what it multiplies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from packify.widths.analysis import WidthAnalysis
from packify.widths.assignment import Sizes
from packify.widths.dims import free
from packify.widths.meetings import Meeting, meeting_of, weight_makers
from tests.unit.widths.small import analysed, graph_of, node_of

TOKENS = torch.randn(2, 5, 3)
HEADS, SIZE = 2, 7


class Projected(nn.Module):
    """Queries, keys and values ``"b h n d"``."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 14)
        self.qkv = nn.Linear(14, 3 * HEADS * SIZE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.qkv(self.embed(x)).unflatten(-1, (3, HEADS, SIZE)).permute(2, 0, 3, 1, 4)


def _met(analysis: WidthAnalysis, node: fx.Node) -> Meeting | None:
    graph = graph_of(analysis)
    return meeting_of(node, analysis.propagations[id(graph)].dims, weight_makers(graph, analysis.layers))


def _first(forward: Any, x: Any, operator: str = "mul", **held: Any) -> Meeting | None:
    analysis = analysed(forward, x, **held)
    return _met(analysis, node_of(analysis, operator))


@pytest.mark.parametrize(
    ("attend", "operator"),
    [
        (lambda q, k, v: ((q * 0.5) @ k.transpose(-2, -1)).softmax(-1) @ v, "mul"),
        (lambda q, k, v: ((q @ k.mT) * 0.5).softmax(-1) @ v, "mul"),
        (lambda q, k, v: (torch.einsum("bhid,bhjd->bhij", q, k) / 2.0).softmax(-1) @ v, "div"),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.5), "scaled_dot_product_attention"),
    ],
)
def test_a_scale_of_attention_meets_the_size_of_a_head(attend: Any, operator: str) -> None:
    def forward(net: Any, x: Any) -> Any:
        return net.out(attend(*net.project(x)).transpose(1, 2).flatten(2))

    met = _first(forward, TOKENS, operator, project=Projected(), out=nn.Linear(14, 3))
    assert met is not None
    assert (met.kind, met.alone_will_do) == ("product", True)
    assert next(iter(met.reference_sizes().items())) == ("the size of a head", SIZE)


def test_queries_that_are_scaled_before_they_are_split_meet_the_stream_and_the_factors_of_it() -> None:
    def forward(net: Any, x: Any) -> Any:
        x = net.embed(x)
        q = (net.q(x) * 0.5).unflatten(-1, (HEADS, SIZE)).transpose(1, 2)
        return (q @ net.k(x).unflatten(-1, (HEADS, SIZE)).permute(0, 2, 3, 1)).mean(1)

    held = {name: nn.Linear(3 if name == "embed" else 14, 14) for name in ("embed", "q", "k")}
    met = _first(forward, TOKENS, **held)
    assert met is not None
    found = met.reference_sizes()
    assert (found["factor 1 of axis -1"], found["factor 2 of axis -1"], found["the width of the stream"]) == (SIZE, HEADS, 14)
    assert 5 not in found.values()  # tokens are no width


def test_a_number_in_a_weight_meets_the_fans_of_its_layer() -> None:
    def forward(net: Any, x: Any) -> Any:
        return net.head(F.conv1d(net.embed(x.mT), net.w * 0.25, groups=2))

    held = {"embed": nn.Conv1d(3, 8, 1), "w": nn.Parameter(torch.randn(6, 4, 3)), "head": nn.Conv1d(6, 2, 1)}
    met = _first(forward, TOKENS, **held)
    assert met is not None
    assert met.kind == "weight"
    found = met.reference_sizes()
    assert (found["fan_in"], found["fan_out"], found["the layer's outputs"], found["axis 2 of it"]) == (12, 18, 6, 3)
    assert [node.meta["op"] for node in met.per_group.values()] == ["conv1d"]


def test_embeddings_meet_their_width_and_outputs_the_fans_of_their_layer() -> None:
    tokens = torch.zeros(2, 5, dtype=torch.long)
    met = _first(lambda net, x: net.head(net.embed(x) * 4.0), tokens, embed=nn.Embedding(9, 16), head=nn.Linear(16, 3))
    assert met is not None
    assert (met.kind, met.reference_sizes()) == ("embedding", {"the embedding's width": 16})
    met = _first(lambda net, x: net.head(net.fc(x) * 4.0), TOKENS, fc=nn.Linear(3, 16), head=nn.Linear(16, 3))
    assert met is not None
    assert (met.kind, met.alone_will_do) == ("output", False)
    assert met.reference_sizes()["fan_in"] == 3


@pytest.mark.parametrize("forward", [lambda net, x: net.fc(x * 0.5), lambda net, x: net.fc(x).relu() * 0.5])
def test_numbers_that_meet_no_width(forward: Any) -> None:
    assert _first(forward, TOKENS, fc=nn.Linear(3, 4)) is None


def test_the_sizes_of_a_member_and_of_a_subgroup() -> None:
    a, b = free(8), free(6)
    layer = fx.Graph().placeholder("layer")
    met = Meeting("weight", {"fan_in": [a, b], "fan_out": [b]}, {"fan_in": layer})
    sizes = Sizes({a: 4, b: 3}, {})
    assert met.reference_sizes() == {"fan_in": 48, "fan_out": 6}
    assert met.member_sizes(sizes, lambda _: 1) == {"fan_in": 12, "fan_out": 3}
    assert met.member_sizes(sizes, {layer: 2}.__getitem__) == {"fan_in": 6, "fan_out": 3}


def test_what_makes_weights() -> None:
    def forward(net: Any, x: Any) -> Any:
        return F.linear(net.fc(x), net.w.abs() / 2)

    analysis = analysed(forward, TOKENS, fc=nn.Linear(3, 4), w=nn.Parameter(torch.randn(2, 4)))
    found = weight_makers(graph_of(analysis), analysis.layers)
    assert {node.meta["op"] for node in found} == {"get_attr", "abs", "div"}
    assert set(found.values()) == {node_of(analysis, "linear", 1)}
