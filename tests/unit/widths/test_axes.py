"""Sized axes: frozen copies of dims, shared where the dims are."""

from __future__ import annotations

import pytest

from packify.widths.assignment import Sizes, Step
from packify.widths.axes import Axis, axes_of
from packify.widths.dims import GIVEN, Atom, Product, Quotient, Sum, fixed, free
from packify.widths.matching import equate


def test_axes_are_what_their_dims_are_made_of() -> None:
    heads, size, stream = Atom(4), Atom(8), Atom(6)
    merged, joined = Product([heads, size]), Sum([stream, fixed(2)])
    share = Quotient(joined, 2)
    sizes = Sizes({heads: 2, size: 8, stream: 4}, {size: Step(4)})
    axes = axes_of({"weight": [merged, joined], "bias": [share]}, sizes)
    (first, second), (third,) = axes["weight"], axes["bias"]
    assert (first.kind, first.size, first.member) == ("*", 32, 16)
    assert [(part.size, part.member, part.blocks, part.kind) for part in first.parts] == [(4, 2, 1, ""), (8, 8, 4, "")]
    assert (second.kind, second.size, second.member) == ("+", 8, 6)
    assert [part.member for part in second.parts] == [4, 2]
    assert (third.kind, third.size, third.member, third.divisor) == ("/", 4, 3, 2)
    assert third.parts == (second,)


def test_equal_dims_are_one_axis_also_across_tensors() -> None:
    left, right = free(5), free(5)
    equate(left, right, GIVEN)
    axes = axes_of({"a": [left, fixed(5)], "b": [right, Product([right, left])]}, Sizes({}, {}))
    assert axes["a"][0] is axes["b"][0] is axes["b"][1].parts[0] is axes["b"][1].parts[1]
    assert axes["a"][1] is not axes["a"][0]


def test_an_axis_is_itself_and_no_other_of_the_same_sizes() -> None:
    assert Axis(4, 2) != Axis(4, 2)
    with pytest.raises(AttributeError):
        Axis(4, 2).size = 3  # type: ignore[misc]


def test_shares_of_shares_as_deep_as_a_network_has_blocks() -> None:
    dim = free(8)
    for _ in range(5000):
        dim = Sum([dim, fixed(1)])
    (axis,) = axes_of({"w": [dim]}, Sizes({}, {}))["w"]
    assert axis.member == axis.size == 5008
