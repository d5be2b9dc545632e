"""What is known of a recording's widths before any configuration is."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from packify.widths.analysis import COMPUTED, DEPTHWISE, Layer, WidthAnalysis, flat
from packify.widths.assignment import Sizes
from packify.widths.dims import free
from tests.unit.widths.small import analysed

X = torch.randn(2, 4, 5)


def _layers(analysis: WidthAnalysis) -> dict[str, Layer]:
    return {layer.name: layer for layer in analysis.layers.values()}


def test_layers_have_their_widths_weights_and_places() -> None:
    def forward(net: Any, x: Any) -> Any:
        x = net.inner(net.stem(x).relu())
        return F.linear(x.mean(-1), net.w * 2)

    found = _layers(analysed(forward, X, stem=nn.Conv1d(4, 6, 1), inner=nn.ConvTranspose1d(6, 8, 1), w=nn.Parameter(torch.randn(3, 8))))
    assert list(found)[:2] == ["stem", "inner"]
    stem, inner, last = found.values()
    assert [(one.width_in.root().size, one.width_out.root().size) for one in (stem, inner, last)] == [(4, 6), (6, 8), (8, 3)]
    assert stem.width_out.root() is inner.width_in.root()
    assert stem.width_in.is_pinned()
    assert [one.is_inner for one in (stem, inner, last)] == [False, True, False]
    assert (stem.weight, last.weight, last.sources) == ("stem.weight", "w", {"w"})


def test_gamma_cuts_no_weight_that_is_shared_or_read_elsewhere_and_no_depthwise_conv() -> None:
    def forward(net: Any, x: Any) -> Any:
        x = net.shared(net.shared(net.stem(x)))
        x = net.normed(net.depthwise(x))
        return net.head(net.plain(x)), net.normed.weight.norm()

    held = {name: nn.Conv1d(6, 6, 1) for name in ("shared", "normed", "plain", "head")}
    found = _layers(analysed(forward, X, stem=nn.Conv1d(4, 6, 1), depthwise=nn.Conv1d(6, 6, 3, groups=6), **held))
    assert {name: layer.whole for name, layer in found.items()} == {
        "stem": "",
        "shared": COMPUTED,
        "depthwise": DEPTHWISE,
        "normed": COMPUTED,
        "plain": "",
        "head": "",
    }
    assert found["depthwise"].is_depthwise
    assert not found["plain"].is_depthwise


def test_groups_that_scale_are_the_members_cardinality() -> None:
    def forward(net: Any, x: Any) -> Any:
        return net.head(net.grouped(net.stem(x)))

    held = {"stem": nn.Conv1d(4, 12, 1), "grouped": nn.Conv1d(12, 12, 1, groups=4), "head": nn.Conv1d(12, 3, 1)}
    kept = _layers(analysed(forward, X, **held))["grouped"]
    assert (kept.cardinality, kept.groups_in(Sizes({}, {}))) == (None, 4)
    scaled = _layers(analysed(forward, X, scaled_groups=frozenset((4,)), **held))["grouped"]
    assert scaled.cardinality is not None
    assert scaled.groups_in(Sizes({scaled.cardinality.root(): 2}, {})) == 2
    assert scaled.whole == ""


def test_every_size_is_among_the_roots_once_with_all_that_it_is_made_of() -> None:
    def forward(net: Any, x: Any) -> Any:
        x = torch.cat((net.a(x), net.b(x)), 1)
        return net.head(x.flatten(1))

    analysis = analysed(forward, X, a=nn.Conv1d(4, 6, 1), b=nn.Conv1d(4, 7, 1), head=nn.Linear(65, 3))
    found = set(analysis.roots)
    assert len(found) == len(analysis.roots)
    assert all(root.root() is root and {part.root() for part in root.parts} <= found for root in found)
    assert {6, 7, 13, 65} <= {root.size for root in found}


def test_modes_that_differ_share_parameters_and_have_layers_of_their_own() -> None:
    def forward(net: Any, x: Any) -> Any:
        return net.b(net.a(x) if net.training else net.a(x).relu())

    analysis = analysed(forward, X, a=nn.Conv1d(4, 6, 1), b=nn.Conv1d(6, 3, 1))
    assert len(analysis.propagations) == 2
    assert sorted(layer.name for layer in analysis.layers.values()) == ["a", "a", "b", "b"]
    assert len({layer.width_out.root() for layer in analysis.layers.values() if layer.name == "a"}) == 1


def test_dims_in_nested_values() -> None:
    a, b = free(2), free(3)
    assert list(flat(([a, b], None, (a, [3, [b]])))) == [a, b, a, b]
