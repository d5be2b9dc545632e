"""Sizes as unknowns: products, totals, pins and rounding."""

from __future__ import annotations

from fractions import Fraction

import pytest

from packify.widths.assignment import assign, choose_scaled, member_size
from packify.widths.dims import Dim, Reason, fixed, free, pin, product, quotient, require_multiple, total
from packify.widths.matching import equate, split_product, split_total

_WHY = Reason("layer", "file.py:1", "a test")


def _demanded(size: int) -> Dim:
    dim = free(size)
    dim.demands.append("a layer")
    return dim


def _solve(ratio: Fraction, *dims: Dim, round_to: int = 1) -> list[int]:
    roots = []
    for dim in dims:
        roots += [dim.root(), *(atom.root() for atom in dim.atoms())]
    unique = list(dict.fromkeys(roots))
    choose_scaled(unique)
    assign(unique, ratio, round_to)
    return [member_size(dim) for dim in dims]


@pytest.mark.parametrize(
    ("size", "ratio", "round_to", "member"),
    [(64, "2/3", 1, 43), (64, "1/2", 1, 32), (3, "1/8", 1, 1), (10, "3/4", 8, 8), (10, "3/2", 1, 15), (5, "1/2", 1, 3), (1, "1/2", 1, 1)],
)
def test_a_width_is_the_nearest_that_fits(size: int, ratio: str, round_to: int, member: int) -> None:
    assert _solve(Fraction(ratio), _demanded(size), round_to=round_to) == [member]


def test_equal_sizes_stay_equal_and_pins_spread() -> None:
    a, b, c = _demanded(8), free(8), free(8)
    equate(a, b)
    equate(b, c)
    assert _solve(Fraction(1, 2), a, b, c) == [4, 4, 4]
    pin(c, _WHY)
    assert a.is_pinned()
    assert not pin(a, _WHY)
    assert _solve(Fraction(1, 2), a, b, c) == [8, 8, 8]


def test_heads_are_structure_and_head_size_scales() -> None:
    width = _demanded(12)
    heads, size = split_product(width, [3, 4])
    assert _solve(Fraction(1, 2), width, heads, size) == [6, 3, 2]


def test_a_pinned_factor_leaves_the_other_to_scale() -> None:
    width = _demanded(12)
    heads, size = split_product(width, [4, 3])
    pin(size, _WHY)
    assert _solve(Fraction(1, 2), width, heads, size) == [6, 2, 3]


def test_joined_widths_scale_one_by_one() -> None:
    a, b = _demanded(6), _demanded(10)
    joined = total([a, b])
    assert _solve(Fraction(1, 2), a, b, joined) == [3, 5, 8]
    assert joined.size == 16


def test_cutting_what_was_joined_gives_the_parts_back() -> None:
    a, b = _demanded(6), _demanded(10)
    first, second = split_total(total([a, b]), [6, 10])
    assert _solve(Fraction(1, 2), a, b, first, second) == [3, 5, 3, 5]
    first, second, _ = split_total(total([a, b]), [2, 4, 10])
    assert sum(_solve(Fraction(1, 2), a, b, first, second)[2:]) == 3


def test_three_times_a_width() -> None:
    d = _demanded(8)
    fused = product([fixed(3), d])
    parts = split_total(fused, [8, 8, 8])
    assert _solve(Fraction(1, 2), d, *parts) == [4, 4, 4, 4]


def test_groups_divide() -> None:
    width = _demanded(12)
    per_group = quotient(width, 4)
    assert _solve(Fraction(2, 5), width, per_group) == [4, 1]
    other = _demanded(10)
    require_multiple(other, 5)
    assert _solve(Fraction(1, 3), other) == [5]


def test_sizes_that_cannot_be_matched_are_pinned_with_a_reason() -> None:
    a = product([_demanded(4), _demanded(6)])
    b = product([_demanded(3), _demanded(8)])
    equate(a, b, _WHY)
    assert a.is_pinned()
    assert b.is_pinned()
    assert all(atom.pin.source == "file.py:1" for atom in a.atoms())


def test_products_and_totals_simplify() -> None:
    a = free(5)
    assert product([fixed(1), a]).root() is a
    assert total([a]).root() is a
    assert total([fixed(2), fixed(3)]).root().size == 5
    assert total([fixed(2), fixed(3)]).is_pinned()
    assert product([]).size == 1
    assert quotient(a, 1).root() is a
