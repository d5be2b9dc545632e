"""Where gamma cuts, by the place of a layer in the graph and by its channels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from packify.core.spec import Spec
from packify.ops.table import RULES
from packify.widths.gamma import Place, gamma_for, places
from tests.unit.widths.small import analysed, graph_of

INNER = Place(first=False, last=False, enters_branch=False)


def _wants(forward: Any, x: Any, **held: Any) -> dict[str, str]:
    """Why each layer keeps gamma = 1 under the paper's policy, by its module."""
    found = places(graph_of(analysed(forward, x, **held)), RULES)
    return {node.meta["path"]: place.wants.partition(" by ")[0] for node, place in found.items()}


def _conv(channels: int = 4) -> nn.Conv2d:
    return nn.Conv2d(channels, 4, 3, padding=1)


X = torch.randn(2, 3, 4, 4)
FIRST, LAST, ENTERS = "it is a first layer", "it is a last layer", "it opens a residual branch"


def test_a_residual_block_opens_with_a_layer_that_keeps_one_group() -> None:
    def forward(net: Any, x: Any) -> Any:
        x = net.stem(x).relu()
        x = (net.two(net.one(x).relu()) + net.shortcut(x)).relu()
        return net.head(x.mean((2, 3)))

    found = _wants(forward, X, stem=_conv(3), one=_conv(), two=_conv(), shortcut=nn.Conv2d(4, 4, 1), head=nn.Linear(4, 3))
    assert found == {"stem": FIRST, "one": ENTERS, "two": "", "shortcut": "", "head": LAST}


def test_a_norm_between_stream_and_conv_mixes_nothing_anew() -> None:
    def forward(net: Any, x: Any) -> Any:
        x = net.stem(x)
        x = x + net.two(net.one(net.norm(x).relu()).relu())
        return net.head(x.mean((2, 3)))

    held = {"stem": _conv(3), "norm": nn.BatchNorm2d(4), "one": _conv(), "two": _conv(), "head": nn.Linear(4, 3)}
    assert _wants(forward, X, **held)["one"] == ""
    held["norm"] = nn.GELU()  # treats each channel alike: the layer reads the stream
    assert _wants(forward, X, **held)["one"] == ENTERS


def test_branches_of_equal_length_have_no_entry() -> None:
    def forward(net: Any, x: Any) -> Any:
        x = net.stem(x)
        return net.head((net.one(x) + net.two(x)).mean((2, 3)))

    found = _wants(forward, X, stem=_conv(3), one=_conv(), two=_conv(), head=nn.Linear(4, 3))
    assert (found["one"], found["two"]) == ("", "")


def test_every_layer_that_reads_the_input_is_first_and_every_one_that_nothing_follows_last() -> None:
    def forward(net: Any, x: Any) -> Any:
        x = net.a(x).relu() * net.b(x).sigmoid()
        x = net.inner(x).flatten(1)
        return net.c(x), net.d(x).softmax(-1)

    found = _wants(forward, X, a=_conv(3), b=_conv(3), inner=_conv(), c=nn.Linear(64, 2), d=nn.Linear(64, 3))
    assert found == {"a": FIRST, "b": FIRST, "inner": "", "c": LAST, "d": LAST}


def test_an_only_layer_is_first() -> None:
    assert Place(first=True, last=True, enters_branch=True).wants == FIRST
    assert _wants(lambda net, x: net.a(x), X, a=_conv(3)) == {"a": FIRST}


@settings(max_examples=40)
@given(
    gamma=st.integers(2, 9),
    channels=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    groups=st.integers(1, 4),
    least=st.integers(1, 64),
    policy=st.sampled_from(["paper", "uniform"]),
)
def test_gamma_is_the_largest_that_fits(gamma: int, channels: tuple[int, int], groups: int, least: int, policy: Any) -> None:
    spec = Spec(2, 4, gamma, policy, min_channels_per_group=least)
    member_in, member_out = (count * groups for count in channels)
    least = least if policy == "paper" else 1
    fits = [g for g in range(1, gamma + 1) if not channels[0] % g and not channels[1] % g and channels[0] // g >= least]
    found, why = gamma_for(spec, INNER, member_in, groups, lambda count: member_out % (groups * count) == 0)
    assert found == max(fits, default=1)
    assert bool(why) == (found < gamma)


@pytest.mark.parametrize(
    ("place", "policy", "gamma"),
    [
        (Place(True, False, False), "uniform", 1),
        (Place(False, True, False), "uniform", 1),
        (Place(False, False, True), "uniform", 2),
        (Place(False, False, True), "paper", 1),
        (INNER, "paper", 2),
    ],
)
def test_policies(place: Place, policy: Any, gamma: int) -> None:
    found, why = gamma_for(Spec(2, 4, 2, policy), place, 256, 1, lambda count: 256 % count == 0)
    assert found == gamma
    assert why == ("" if gamma == 2 else place.wants)
    assert gamma_for(Spec(2, 4, 1), place, 256, 1, lambda _: True) == (1, "")
