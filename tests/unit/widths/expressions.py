"""Sizes as a test writes them down, and what they come to for given atoms."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from hypothesis import strategies as st

from packify.widths.dims import Atom, Dim, Product, Quotient, Sum, parts_first


def value(dim: Dim, sizes: Mapping[Dim, int]) -> Fraction:
    """What a size comes to; atoms that are not among `sizes` keep the reference's."""
    known: dict[Dim, Fraction] = {}
    for root in parts_first(dim, skip=lambda root: False):
        parts = [known[part.root()] for part in root.parts]
        if isinstance(root, Atom):
            known[root] = Fraction(sizes.get(root, root.size))
        elif isinstance(root, Product):
            known[root] = Fraction(1)
            for part in parts:
                known[root] *= part
        elif isinstance(root, Sum):
            known[root] = sum(parts, Fraction(0))
        elif isinstance(root, Quotient):
            known[root] = parts[0] / root.divisor
    return known[dim.root()]


def chosen(draw: st.DrawFn, *dims: Dim) -> dict[Dim, int]:
    """Random sizes for the atoms that may change; 997 and the like make equal values an accident."""
    moving = {atom for dim in dims for atom in dim.atoms() if atom.pin is None and atom.size > 1}
    return {atom: draw(st.integers(1, 997)) for atom in sorted(moving, key=lambda atom: (atom.size, id(atom)))}
