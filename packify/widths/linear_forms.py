"""Sizes as sums of rational multiples of atoms: ``3 * d / 2 + 8`` is ``{d: 3, ONE: 16} / 2``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from packify.widths.dims import GIVEN, Atom, Dim, Product, Quotient, fixed, parts_first, product

ONE = Atom(1)
"""What the constant part of a linear form is a multiple of."""


@dataclass(frozen=True)
class Linear:
    """Whole multiples of atoms over one common divisor, in lowest terms."""

    counts: Mapping[Atom, int]
    over: int = 1

    @property
    def single(self) -> tuple[Atom, Fraction] | None:
        """The atom and how much of it, where there is one only."""
        if len(self.counts) != 1:
            return None
        ((atom, count),) = self.counts.items()
        return atom, Fraction(count, self.over)

    @property
    def constant(self) -> Fraction | None:
        """The size itself, where no atom may change it."""
        return Fraction(self.counts.get(ONE, 0), self.over) if self.counts.keys() <= {ONE} else None

    def times(self, ratio: Fraction) -> Linear:
        """A multiple of it."""
        if ratio == 1:
            return self
        return _lowest({atom: count * ratio.numerator for atom, count in self.counts.items()}, self.over * ratio.denominator)


def _lowest(counts: Mapping[Atom, int], over: int) -> Linear:
    common = math.gcd(over, *counts.values())
    return Linear(counts, over) if common == 1 else Linear({atom: count // common for atom, count in counts.items()}, over // common)


def _added(forms: Iterable[Linear]) -> Linear:
    forms = list(forms)
    over = math.lcm(*(form.over for form in forms))
    counts: Counter[Atom] = Counter()
    for form in forms:
        counts.update(form.counts if form.over == over else {atom: count * (over // form.over) for atom, count in form.counts.items()})
    return _lowest(dict(counts), over)


def linear(dim: Dim) -> Linear | None:
    """A size as a sum of rational multiples of atoms that may change; None if two factors of a product may."""
    known: dict[Dim, Linear | None] = {}
    for root in parts_first(dim, skip=lambda root: isinstance(root, Atom)):
        known[root] = form = _form(root, known)
        if isinstance(root, Quotient) and form is not None and form.single is not None:
            _shorten(root, *form.single)
    return _of(dim.root(), known)


def _of(root: Dim, known: Mapping[Dim, Linear | None]) -> Linear | None:
    if isinstance(root, Atom):
        return Linear({ONE: root.size}) if root.pin is not None or root.size == 1 else Linear({root: 1})
    return known[root]


def _form(root: Dim, known: Mapping[Dim, Linear | None]) -> Linear | None:
    parts = [_of(part.root(), known) for part in root.parts]
    forms = [form for form in parts if form is not None]
    if len(forms) < len(parts):
        return None
    if isinstance(root, Quotient):
        return forms[0].times(Fraction(1, root.divisor))
    return _multiplied(forms) if isinstance(root, Product) else _added(forms)


def _multiplied(factors: list[Linear]) -> Linear | None:
    still = [form.constant for form in factors if form.constant is not None]
    moving = [form for form in factors if form.constant is None]
    if len(moving) > 1:
        return None
    return (moving[0] if moving else Linear({ONE: 1})).times(math.prod(still, start=Fraction(1)))


def _shorten(root: Quotient, atom: Atom, ratio: Fraction) -> None:
    """Say a share of one atom of that atom itself, so that chains of shares stay short."""
    if atom is ONE:
        root.say_of(fixed(root.size, next((part.pin for part in root.atoms() if part.pin), GIVEN)), 1)
    else:
        root.say_of(product([fixed(ratio.numerator), atom]), ratio.denominator)
