"""Equations between sizes: every matcher by itself, their order, and any mixture of them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packify.widths.dims import Atom, Dim, Product, Quotient, Reason, Sum, fixed, free, made_of, parts_first, pin, product, quotient, total
from packify.widths.matching import MATCHERS, Equation, equal_share, equate, matcher_for, split_product, split_total, suggest, summands
from tests.unit.widths.expressions import chosen, value

WHY = Reason("layer", "file.py:1", "a test")
Sides = tuple[Dim, Dim]

sizes = st.integers(2, 6)


def _turned(a: Dim, b: Dim) -> Sides:
    return Sum([a, b]), Sum([b, a])


def _moving(*dims: Dim) -> set[Atom]:
    return {atom for dim in dims for atom in dim.atoms() if atom.pin is None and atom.size > 1}


# -- one equation per matcher, which no earlier matcher takes -----------------------------------------------------------


@st.composite
def _expression(draw: st.DrawFn) -> Dim:
    a, b, c = (free(draw(sizes)) for _ in range(3))
    joined, doubled = Sum([product([a, b]), c]), Quotient(product([fixed(2), a, b]), 2)
    return draw(st.sampled_from([a, product([a, b]), Sum([a, b]), product([fixed(3), a]), joined, doubled]))


@st.composite
def _atom_first(draw: st.DrawFn) -> Sides:
    other = draw(_expression())
    return free(other.size), other


@st.composite
def _atom_second(draw: st.DrawFn) -> Sides:
    other = draw(_expression().filter(lambda dim: not isinstance(dim, Atom)))
    return other, free(other.size)


@st.composite
def _same_sum(draw: st.DrawFn) -> Sides:
    a, b = free(draw(sizes)), free(draw(sizes))
    count = draw(sizes)
    counted = product([fixed(count), a]), Sum([a] * count)
    spread = Sum([product([fixed(2), a]), b]), Sum([a, b, a])
    return draw(st.sampled_from([(Sum([a, b]), Sum([b, a])), counted, spread]))


@st.composite
def _multiples_of_two_atoms(draw: st.DrawFn) -> Sides:
    m, n, size = draw(sizes), draw(sizes), draw(sizes)
    return product([fixed(m), free(n * size)]), product([fixed(n), free(m * size)])


@st.composite
def _factors_in_line(draw: st.DrawFn) -> Sides:
    a, b, c = draw(sizes), draw(sizes), draw(sizes)
    ways = [[a, b, c], [a * b, c], [a, b * c]]
    left, right = draw(st.sampled_from([(x, y) for x in ways for y in ways]))
    return Product([free(size) for size in left]), Product([free(size) for size in right])


@st.composite
def _one_atom_and_more(draw: st.DrawFn) -> Sides:
    count, size = draw(sizes), draw(st.integers(4, 6))
    one = product([fixed(count), free(size)])
    first = draw(st.integers(2, count * size - 2))
    cut, doubled = Sum([free(first), free(count * size - first)]), Quotient(Product([free(2 * count), free(size)]), 2)
    other = draw(st.sampled_from([cut, doubled]))
    return (one, other) if draw(st.booleans()) else (other, one)


@st.composite
def _sums(draw: st.DrawFn) -> Sides:
    whole = draw(st.integers(3, 10))

    def cut() -> Dim:
        places = sorted(draw(st.sets(st.integers(1, whole - 1), min_size=1, max_size=3)))
        return Sum([free(2 * (after - before)) for before, after in zip([0, *places], [*places, whole], strict=True)])

    return cut(), cut()


@st.composite
def _product_and_sum(draw: st.DrawFn) -> Sides:
    inner = draw(sizes)
    counts = draw(st.lists(st.integers(1, 3), min_size=2, max_size=3))
    many, joined = Product([free(sum(counts)), free(inner)]), Sum([free(count * inner) for count in counts])
    return (many, joined) if draw(st.booleans()) else (joined, many)


@st.composite
def _quotients(draw: st.DrawFn) -> Sides:
    a, b, count = draw(sizes), draw(sizes), draw(st.integers(2, 4))
    return tuple(Quotient(Product([free(a * count), free(b)]), count) for _ in range(2))


CASES: dict[str, st.SearchStrategy[Sides]] = {
    "an atom on the left": _atom_first(),
    "an atom on the right": _atom_second(),
    "the same sum of multiples": _same_sum(),
    "a multiple of one atom each": _multiples_of_two_atoms(),
    "products that line up": _factors_in_line(),
    "a multiple of one atom": _one_atom_and_more(),
    "sums": _sums(),
    "a product and a sum": _product_and_sum(),
    "quotients by one count": _quotients(),
}
KEEPS_SOMETHING = {"a product and a sum": 1}
"""How many atoms a matcher may pin: a count of equal parts is structure."""


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_matcher_keeps_both_sides_equal_and_pins_nothing_else(name: str, data: st.DataObject) -> None:
    left, right = data.draw(CASES[name])
    before = _moving(left, right)
    assert matcher_for(Equation(left, right)).name == name
    equate(left, right, WHY)
    assert len([atom for atom in before if atom.root().is_pinned()]) <= KEEPS_SOMETHING.get(name, 0)
    assert _moving(left, right)
    sizes = data.draw(st.composite(lambda draw: chosen(draw, left, right))())
    assert value(left, sizes) == value(right, sizes)
    assert value(left, {}) == left.size


@pytest.mark.parametrize(
    "build",
    [
        lambda: (free(4), free(6)),
        lambda: (Product([free(4), free(6)]), Product([free(3), free(8)])),
        lambda: (Product([free(4), free(6)]), Sum([free(7), free(17)])),
        lambda: (Quotient(Product([free(4), free(6)]), 2), Product([free(4), free(3)])),
    ],
)
def test_what_cannot_be_matched_keeps_its_size_and_says_why(build: Callable[[], Sides]) -> None:
    left, right = build()
    equate(left, right, WHY)
    for dim in (left, right):
        assert dim.is_pinned()
        assert all(atom.pin is not None and atom.pin.source == "file.py:1" for atom in dim.atoms())


def test_a_size_that_is_made_of_itself_is_no_equation_that_can_move() -> None:
    a, b = free(3), free(4)
    equate(a, Quotient(Product([a, b]), 4), WHY)
    assert b.is_pinned()
    c = free(6)
    equate(c, Quotient(product([fixed(2), c]), 2), WHY)
    assert not c.is_pinned()


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_order_of_the_matchers() -> None:
    assert [matcher.name for matcher in MATCHERS] == [
        "sizes that differ",
        *CASES,
        "what nothing matches",
    ]


def test_the_last_matcher_always_applies() -> None:
    assert MATCHERS[-1].applies(Equation(Quotient(Product([free(4), free(6)]), 2), Sum([Product([free(2), free(3)]), free(6)])))


@pytest.mark.parametrize(
    ("earlier", "later", "build"),
    [
        ("a multiple of one atom each", "products that line up", lambda: (product([fixed(4), free(6)]), product([fixed(8), free(3)]))),
        ("products that line up", "a multiple of one atom", lambda: (product([fixed(2), free(6)]), Product([free(2), free(3), free(2)]))),
        ("the same sum of multiples", "sums", lambda: _turned(free(3), free(5))),
        ("a multiple of one atom", "a product and a sum", lambda: (product([fixed(4), free(6)]), Sum([free(12), free(12)]))),
    ],
)
def test_the_order_matters_where_two_apply(earlier: str, later: str, build: Callable[[], Sides]) -> None:
    equation = Equation(*build())
    applying = [matcher.name for matcher in MATCHERS if matcher.applies(equation)]
    assert applying[0] == earlier
    assert later in applying


def test_sums_in_another_order_need_no_cut() -> None:
    a, b = free(3), free(5)
    equate(Sum([a, b]), Sum([b, a]), WHY)
    assert a.root() is a
    assert b.root() is b


# -- any mixture -------------------------------------------------------------------------------------------------------


@st.composite
def _system(draw: st.DrawFn) -> tuple[list[Dim], list[Sides]]:
    pool: list[Dim] = [free(draw(st.sampled_from([2, 3, 4, 6, 8]))) for _ in range(4)]
    pairs: list[Sides] = []
    for _ in range(draw(st.integers(2, 12))):
        dim, other = draw(st.sampled_from(pool)), draw(st.sampled_from(pool))
        step = draw(st.sampled_from("product sum count share split cut quotient equate equate pin suggest".split()))
        size = dim.root().size
        divisors = [count for count in range(2, 9) if size % count == 0 and size > count]
        if step in ("product", "sum") and size * other.root().size < 2000:
            pool.append(product([dim, other]) if step == "product" else total([dim, other]))
        elif step == "count" and size < 500:
            pool.append(product([fixed(draw(st.integers(2, 4))), dim]))
        elif step == "share" and divisors:
            count = draw(st.sampled_from(divisors))
            pool.append(equal_share(dim, count, WHY))
            pairs.append((dim, product([fixed(count), pool[-1]])))
        elif step == "split" and divisors:
            count = draw(st.sampled_from(divisors))
            parts = split_product(dim, [count, size // count], WHY)
            pool += parts
            pairs.append((dim, product(parts)))
        elif step == "cut" and size > 1:
            first = draw(st.integers(1, size - 1))
            parts = split_total(dim, [first, size - first], WHY)
            pool += parts
            pairs.append((dim, Sum(parts)))
        elif step == "quotient" and divisors:
            count = draw(st.sampled_from(divisors))
            pool.append(quotient(dim, count))
            pairs.append((dim, product([fixed(count), pool[-1]])))
        elif step == "equate":
            same = [candidate for candidate in pool if candidate.root().size == size]
            pairs.append((dim, draw(st.sampled_from(same))))
            equate(*pairs[-1], WHY)
        elif step == "suggest":
            suggest(dim, draw(st.sampled_from(pool)))
        elif step == "pin" and draw(st.integers(0, 3)) == 0:
            pin(dim, WHY)
    return pool, pairs


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_was_equated_stays_equal(data: st.DataObject) -> None:
    pool, pairs = data.draw(_system())
    sizes = data.draw(st.composite(lambda draw: chosen(draw, *pool, *(side for pair in pairs for side in pair)))())
    for left, right in pairs:
        assert value(left, sizes) == value(right, sizes)
    for dim in pool:
        assert value(dim, {}) == dim.root().size


# -- taking an axis apart ----------------------------------------------------------------------------------------------


def test_what_was_joined_is_cut_where_it_was_joined() -> None:
    a, b, c = free(6), free(10), free(2)
    found = summands(total([a, b, c]), [6, 12])
    assert found is not None
    assert found[0].root() is a
    assert found[1].terms() == [b, c]
    assert summands(total([a, b]), [8, 8]) is None
    assert summands(total([a, b]), [16]) is None


def test_a_suggestion_never_pins() -> None:
    a, b = Product([free(4), free(6)]), Product([free(3), free(8)])
    suggest(a, b)
    suggest(free(3), a)
    assert not a.is_pinned()
    assert a.root() is not b.root()
    c, d = free(24), free(24)
    suggest(c, a)
    suggest(a, d)
    assert c.root() is a.root() is d.root()


def test_shares_as_deep_as_any_network() -> None:
    """Each of 1100 blocks joins a few channels of its own to half of twice what it reads; the recursion limit is not touched."""
    limit = sys.getrecursionlimit()
    first = width = free(64)
    for _ in range(1100):
        width = Sum([Quotient(product([fixed(2), width]), 2), free(2)])
    other = free(width.size)
    equate(width, other, WHY)
    equate(product([fixed(2), free(width.size // 2)]), width, WHY)
    assert sys.getrecursionlimit() == limit
    assert other.root() is width
    assert made_of(width, first)
    assert value(width, {}) == 64 + 2 * 1100
    assert len(repr(width)) < 200
    assert pin(first, WHY)
    assert first.is_pinned()
    assert not width.is_pinned()


def test_shares_of_shares_stay_short() -> None:
    first = width = free(64)
    for _ in range(200):
        width = equal_share(product([fixed(2), width]), 2, WHY)
        width = split_product(product([fixed(6), width]), [3, 128], WHY)[1]
        width = equal_share(width, 2, WHY)
    assert len(list(parts_first(width, skip=lambda root: False))) < 10
    assert not first.is_pinned()
