"""The sizes of a member: what scales, pins and rounding; one configuration leaves no mark that another sees."""

from __future__ import annotations

from fractions import Fraction

import pytest

from packify.widths.assignment import Pins, Step, assign
from packify.widths.dims import Dim, Product, Reason, fixed, free, pin, product, quotient, require_multiple, total, wholes_first
from packify.widths.matching import equate, split_product, split_total

_WHY = Reason("layer", "file.py:1", "a test")


def _demanded(size: int) -> Dim:
    dim = free(size)
    dim.demands.append("a layer")
    return dim


def _solve(ratio: Fraction, *dims: Dim, round_to: int = 1) -> list[int]:
    sizes = assign(list(wholes_first(dims)), ratio, round_to, Pins(), {})
    return [sizes.of(dim) for dim in dims]


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


def test_what_a_configuration_learns_is_its_own() -> None:
    width, other = _demanded(12), _demanded(8)
    heads, size = split_product(width, [3, 4])
    roots = list(wholes_first([width, heads, size, other]))
    half = Fraction(1, 2)
    pins = Pins()
    assert pins.add(other.atoms(), _WHY)
    assert not pins.add(other.atoms(), _WHY)
    assert pins.hold(other)
    kept = assign(roots, half, 1, pins, {})
    stepped = assign(roots, Fraction(1, 3), 1, Pins(), {width.root(): Step(6, _WHY)})
    fresh = assign(roots, half, 1, Pins(), {})
    assert [kept.of(dim) for dim in (width, other)] == [6, 8]
    assert [stepped.of(dim) for dim in (width, other)] == [6, 3]
    assert stepped.step(width).because is _WHY
    assert [fresh.of(dim) for dim in (width, heads, size, other)] == [6, 3, 2, 4]
    assert not width.is_pinned()


def test_a_width_of_its_own_scales_apart_from_the_product_it_is_in() -> None:
    rows, columns = _demanded(4), _demanded(6)
    assert _solve(Fraction(1, 2), Product([rows, columns]), rows, columns) == [6, 2, 3]


def test_divisibility_goes_to_what_can_meet_it() -> None:
    width = _demanded(24)
    heads, size = split_product(width, [4, 6])
    require_multiple(width, 8, _WHY)
    assert _solve(Fraction(1, 2), width, heads, size) == [16, 4, 4]
    assert _solve(Fraction(1, 3), width, heads, size) == [8, 4, 2]


def test_what_no_layer_asks_for_is_what_the_other_parts_leave() -> None:
    asked, rest = _demanded(5), free(4)
    joined = total([asked, rest])
    joined.demands.append("a layer")
    assert _solve(Fraction(1, 2), joined, asked, rest) == [5, 3, 2]
