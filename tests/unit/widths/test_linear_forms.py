"""Sizes as sums of multiples of atoms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packify.widths.dims import Atom, Dim, Product, Quotient, Sum, fixed, free, product
from packify.widths.linear_forms import ONE, Linear, linear
from tests.unit.widths.expressions import chosen, value


@st.composite
def _expression(draw: st.DrawFn) -> Dim:
    pool: list[Dim] = [free(6), free(4), fixed(5), fixed(2), free(1)]
    for _ in range(draw(st.integers(1, 6))):
        first, second = draw(st.sampled_from(pool)), draw(st.sampled_from(pool))
        kind = draw(st.sampled_from([Product, Sum, Quotient]))
        pool.append(Quotient(product([fixed(2), first]), 2) if kind is Quotient else kind([first, second, first]))
    return pool[-1]


@given(st.data())
def test_a_linear_form_comes_to_the_same_size(data: st.DataObject) -> None:
    dim = data.draw(_expression())
    sizes = data.draw(st.composite(lambda draw: chosen(draw, dim))())
    before = value(dim, sizes)
    form = linear(dim)
    assert value(dim, sizes) == before
    if form is not None:
        assert sum(count * (1 if atom is ONE else sizes[atom]) for atom, count in form.counts.items()) == before * form.over


def test_products_of_two_sizes_that_may_change_have_none() -> None:
    a, b = free(3), free(4)
    assert linear(product([a, b])) is None
    assert linear(Sum([product([a, b]), a])) is None
    assert linear(Product([a, fixed(4), free(1)])) == Linear({a: 4})
    assert linear(Sum([a, fixed(2), a, fixed(3)])) == Linear({a: 2, ONE: 5})


def test_a_share_of_a_share_is_said_of_the_atom() -> None:
    a = free(8)
    share = Quotient(Quotient(Quotient(a, 2), 2), 2)
    assert linear(share) == Linear({a: 1}, 8)
    assert share.base is a
    assert share.divisor == 8
    still = Quotient(fixed(8), 4)
    assert linear(still) == Linear({ONE: 2})
    assert isinstance(still.base, Atom)
    assert still.is_pinned()
