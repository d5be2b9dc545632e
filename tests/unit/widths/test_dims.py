"""Sizes as expressions: how they are made, taken apart, pinned and walked."""

from __future__ import annotations

from fractions import Fraction

import pytest

from packify.widths.dims import (
    Atom,
    Dim,
    Product,
    Quotient,
    Reason,
    Sum,
    fixed,
    free,
    made_of,
    multiple,
    parts_first,
    pin,
    product,
    quotient,
    require_multiple,
    total,
    wholes_first,
)

WHY = Reason("layer", "file.py:1", "a test")


def test_products_and_totals_simplify() -> None:
    a = free(5)
    assert product([fixed(1), a]).root() is a
    assert total([a]).root() is a
    assert total([fixed(2), fixed(3)]).root().size == 5
    assert total([fixed(2), fixed(3)]).is_pinned()
    assert product([]).size == 1
    assert quotient(a, 1).root() is a


def test_products_within_products_and_sums_within_sums_are_taken_apart_in_order() -> None:
    a, b, c = free(2), free(3), free(4)
    assert Product([Product([a, b]), c]).factors() == [a, b, c]
    assert Sum([a, Sum([b, Product([a, c])])]).terms()[:2] == [a, b]
    assert a.factors() == a.terms() == [a]


def test_a_dim_that_was_found_equal_is_a_name_for_the_other() -> None:
    a, b, c = free(6), free(6), free(6)
    a.parent, b.parent = b, c
    assert a.root() is c
    assert a.parent is c
    assert product([a]) is c
    assert list(a.atoms()) == [c]


def test_pins_reach_every_atom_once() -> None:
    a, b = free(2), free(3)
    whole = Sum([Product([a, b]), Quotient(a, 2)])
    assert pin(whole, WHY)
    assert not pin(whole, WHY)
    assert whole.is_pinned()
    assert [atom.pin for atom in whole.atoms()] == [WHY, WHY]
    assert free(1).is_pinned()


def test_divisibility_is_kept_with_who_asked_last() -> None:
    a = free(12)
    require_multiple(a, 2, WHY)
    require_multiple(a, 3)
    assert (a.multiple, a.because) == (6, WHY)
    require_multiple(a, 6, Reason("other", "", ""))
    assert a.because is WHY


@pytest.mark.parametrize(
    ("base", "ratio", "size", "kind"),
    [
        (lambda: free(8), Fraction(1, 2), 4, Quotient),
        (lambda: free(8), Fraction(3), 24, Product),
        (lambda: Product([fixed(4), free(6)]), Fraction(1, 4), 6, Atom),
        (lambda: Product([fixed(4), free(6)]), Fraction(3, 8), 9, Quotient),
        (lambda: Product([fixed(4), free(6)]), Fraction(1, 2), 12, Product),
    ],
)
def test_a_multiple_cancels_what_is_fixed(base: object, ratio: Fraction, size: int, kind: type[Dim]) -> None:
    found = multiple(base(), ratio)  # type: ignore[operator]
    assert found.size == size
    assert isinstance(found, kind)


def test_walks_look_into_shared_parts_once_and_in_order() -> None:
    a, b = free(2), free(3)
    shared = Product([a, b])
    whole = Sum([shared, Quotient(shared, 2), b])
    assert list(parts_first(whole, skip=lambda root: False)) == [a, b, shared, whole.parts[1], whole]
    assert list(wholes_first([b, whole])) == [b, whole, shared, a, whole.parts[1]]
    assert list(parts_first(whole, skip=lambda root: root is shared)) == [whole.parts[1], b, whole]


def test_made_of() -> None:
    a, b = free(2), free(3)
    whole = Sum([Product([a, b]), b])
    assert made_of(whole, a)
    assert not made_of(a, whole)
    assert not made_of(a, a)


def test_a_size_is_written_with_what_is_right_below_it() -> None:
    a = Product([fixed(3), Sum([free(4), free(5)])])
    assert repr(a) == "(3! * Sum(9))"
    assert repr(Quotient(a, 3)) == "(Product(27) / 3)"
    b = free(27)
    b.parent = a
    assert repr(b) == repr(a)
