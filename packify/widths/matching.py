"""Sizes that must agree: how two expressions are matched, and how an axis is taken apart.

`equate` looks for the first line of `MATCHERS` that applies to the two expressions. A matcher says what follows: a size stands for
another from now on, or smaller equations are left, which are solved one after the other before it goes on. What no matcher can
match keeps the reference's size, with a reason.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from packify.widths.dims import (
    GIVEN,
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
    pin,
    product,
    require_multiple,
    total,
)
from packify.widths.linear_forms import ONE, Linear, linear

Equations = Iterator[tuple[Dim, Dim]]


class Share(NamedTuple):
    """What an equation says of one atom: it is `ratio` times `base`."""

    atom: Atom
    base: Dim
    ratio: Fraction


class Equation:
    """Two roots of equal meaning, and what a matcher asks about them, worked out once."""

    def __init__(self, left: Dim, right: Dim, reason: Reason = GIVEN) -> None:
        self.left, self.right, self.reason = left.root(), right.root(), reason

    def are(self, left: type[Dim], right: type[Dim]) -> bool:
        """The left side is of the one kind and the right side of the other."""
        return isinstance(self.left, left) and isinstance(self.right, right)

    @functools.cached_property
    def forms(self) -> tuple[Linear | None, Linear | None]:
        """Both sides as sums of multiples of atoms, where they are."""
        return linear(self.left), linear(self.right)

    @functools.cached_property
    def identical(self) -> bool:
        """Both sides are the same sum of multiples."""
        left, right = self.forms
        return left is not None and left == right

    @functools.cached_property
    def share(self) -> Share | None:
        """One side is a multiple of a single atom, which the other side is not made of: ``2 x == y`` makes x half of y."""
        left, right = self.forms
        for form, opposite, other in ((left, right, self.right), (right, left, self.left)):
            atom, count = (form and form.single) or (ONE, Fraction(1))
            if atom is ONE or any(part is atom for part in other.atoms()):
                continue
            base, times = (opposite and opposite.single) or (ONE, Fraction(1))
            return Share(atom, other, 1 / count) if base is ONE else Share(atom, base, times / count)  # of an atom, where it is one
        return None

    @property
    def single(self) -> bool:
        """Both sides are multiples of one atom each."""
        left, right = self.forms
        return left is not None and right is not None and left.single is not None and right.single is not None


@dataclass(frozen=True)
class Matcher:
    """One way to match two expressions.

    Attributes:
        name: what it matches.
        applies: whether it can; no later matcher is asked then.
        solve: binds sizes, and gives the smaller equations that are left, one by one.
    """

    name: str
    applies: Callable[[Equation], bool]
    solve: Callable[[Equation], Equations]


def equate(left: Dim, right: Dim, reason: Reason = GIVEN) -> None:
    """Two sizes that must stay equal. Where their structures cannot be matched, both keep the reference's size."""
    waiting: list[Equations] = [iter([(left, right)])]
    while waiting:
        sides = next(waiting[-1], None)
        if sides is None:
            waiting.pop()
            continue
        equation = Equation(*sides, reason)
        if equation.left is not equation.right:
            waiting.append(matcher_for(equation).solve(equation))


def matcher_for(equation: Equation) -> Matcher:
    """The first line of the table that applies; the last one always does."""
    return next(matcher for matcher in MATCHERS if matcher.applies(equation))


def suggest(left: Dim, right: Dim) -> None:
    """Two sizes that the code writes as one number: they are equated where nothing in their structure speaks against it."""
    equation = Equation(left, right)
    a, b = equation.left, equation.right
    if a is b or a.size != b.size:
        return
    if isinstance(a, Atom) or isinstance(b, Atom):
        atom, other = (a, b) if isinstance(a, Atom) else (b, a)
        if isinstance(atom, Atom) and not made_of(other, atom):
            _bind(atom, other)
    elif not equation.identical and equation.share is not None:
        list(_bind_share(equation))


# -- how an axis is taken apart ----------------------------------------------------------------------------------------


def split_product(dim: Dim, sizes: Sequence[int], reason: Reason = GIVEN) -> list[Dim]:
    """The factors of an axis that is reshaped into several, outermost first."""
    parts = [free(size) if size != 1 else fixed(1) for size in sizes]
    equate(dim, product(parts), reason)
    return parts


def summands(dim: Dim, sizes: Sequence[int]) -> list[Dim] | None:
    """The pieces of an axis that was joined end to end, if it is cut where it was joined."""
    parts = dim.terms()
    found = []
    for size in sizes:
        taken: list[Dim] = []
        while parts and sum(part.root().size for part in taken) < size:
            taken.append(parts.pop(0))
        if sum(part.root().size for part in taken) != size or len(sizes) == 1:
            return None
        found.append(total(taken))
    dim.root().cuts.append(tuple((piece, 1) for piece in found))
    return found


def equal_share(dim: Dim, count: int, reason: Reason = GIVEN) -> Dim:
    """The size of one of `count` equal parts of an axis, wherever they lie in it."""
    share = free(dim.root().size // count)
    equate(dim, product([fixed(count, reason), share]), reason)
    dim.root().cuts.append(((share, count),))
    return share


def split_total(dim: Dim, sizes: Sequence[int], reason: Reason = GIVEN) -> list[Dim]:
    """The pieces of an axis that is cut into several."""
    pinned = dim.is_pinned()
    parts = [fixed(size) if pinned else free(size) for size in sizes]
    kept = [part for part in parts if part.size]
    if not pinned:
        equate(dim, kept[0] if len(kept) == 1 else Sum(kept), reason)
    if len(kept) > 1:
        dim.root().cuts.append(tuple((piece, 1) for piece in kept))
    return parts


def read_elements(dim: Dim, shares: int = 0) -> None:
    """Single elements of an axis are read, or one of so many equal shares: no size follows from that, but each is a piece of its own."""
    root = dim.root()
    if shares and root.size % shares == 0:
        root.cuts.append(((fixed(root.size // shares), shares),))
    else:
        root.apart = True


# -- what the matchers do ----------------------------------------------------------------------------------------------


def _give_up(equation: Equation) -> Equations:
    a, b, reason = equation.left, equation.right, equation.reason
    why = Reason(reason.node, reason.source, f"{reason.why}; the ways in which {a.size} is cut up do not match")
    pin(a, why)
    pin(b, why)
    yield from ()


def _bind_left(equation: Equation) -> Equations:
    if isinstance(equation.left, Atom):
        _bind(equation.left, equation.right)
    yield from ()


def _bind_right(equation: Equation) -> Equations:
    return _bind_left(Equation(equation.right, equation.left, equation.reason))


def _bind_share(equation: Equation) -> Equations:
    if equation.share is not None and not equation.identical:
        atom, base, ratio = equation.share
        require_multiple(base, ratio.denominator)
        _bind(atom, multiple(base, ratio))
    yield from ()


def _match_factors(equation: Equation) -> Equations:
    """Outermost first; where two factors differ, the larger one is the smaller one times a rest."""
    left, right = list(equation.left.parts), list(equation.right.parts)
    while left and right:
        x, y = left.pop(0).root(), right.pop(0).root()
        if isinstance(x, Product):
            left[:0], right[:0] = x.parts, [y]
        elif isinstance(y, Product):
            left[:0], right[:0] = [x], y.parts
        elif x.size == y.size:
            yield x, y
        elif y.size % x.size == 0:
            rest = free(y.size // x.size)
            yield y, product([x, rest])
            right.insert(0, rest)
        else:
            rest = free(x.size // y.size)
            yield x, product([y, rest])
            left.insert(0, rest)
    _merge(equation.left, equation.right)


def _match_terms(equation: Equation) -> Equations:
    """In order; where two terms differ, the larger one is the smaller one plus a rest."""
    left, right = list(equation.left.parts), list(equation.right.parts)
    while left and right:
        x, y = left.pop(0).root(), right.pop(0).root()
        if isinstance(x, Sum):
            left[:0], right[:0] = x.parts, [y]
        elif isinstance(y, Sum):
            left[:0], right[:0] = [x], y.parts
        elif x.size == y.size:
            yield x, y
        elif x.size < y.size:
            rest = free(y.size - x.size)
            yield y, Sum([x, rest])
            right.insert(0, rest)
        else:
            rest = free(x.size - y.size)
            yield x, Sum([y, rest])
            left.insert(0, rest)
    _merge(equation.left, equation.right)


def _match_equal_parts(equation: Equation) -> Equations:
    """``3 * d`` against ``d + d + d``, or ``4 * d`` against ``d + 3 d``: the outermost factor counts parts."""
    many, joined = (equation.left, equation.right) if isinstance(equation.left, Product) else (equation.right, equation.left)
    outer, inner = many.parts[0].root(), product(many.parts[1:])
    if any(part.root().size % inner.size for part in joined.parts):
        yield from _give_up(equation)
        return
    pin(outer, Reason(equation.reason.node, equation.reason.source, "a count of equal parts"))
    for part in joined.parts:
        yield part, product([fixed(part.root().size // inner.size), inner])
    _merge(joined, many)


def _match_bases(equation: Equation) -> Equations:
    yield equation.left.parts[0], equation.right.parts[0]
    _merge(equation.left, equation.right)


def _line_up(a: Dim, b: Dim) -> bool:
    """The factors of two products can be matched one by one, outermost first, by cutting some of them."""
    left, right = ([factor.size for factor in dim.factors()] for dim in (a, b))
    while left and right:
        x, y = left.pop(0), right.pop(0)
        if x % y and y % x:
            return False
        if x > y:
            left.insert(0, x // y)
        elif y > x:
            right.insert(0, y // x)
    return not left and not right


def _bind(atom: Atom, other: Dim) -> None:
    """Replace an atom by what it is equal to, which inherits everything required of it."""
    atom.parent = other
    _inherit(other, atom)
    if atom.pin is not None:
        pin(other, atom.pin)


def _merge(compound: Dim, other: Dim) -> None:
    """Let one compound stand for another that was found equal, unless one is made of the other."""
    a, b = compound.root(), other.root()
    if a is b or made_of(a, b) or made_of(b, a):
        return
    a.parent = b
    _inherit(b, a)


def _inherit(heir: Dim, dim: Dim) -> None:
    require_multiple(heir, dim.multiple, dim.because)
    heir.demands += dim.demands
    heir.read = heir.read or dim.read
    heir.batched += dim.batched
    heir.cuts += dim.cuts
    heir.joins += dim.joins
    heir.apart = heir.apart or dim.apart


def _same_divisor(equation: Equation) -> bool:
    a, b = equation.left, equation.right
    return isinstance(a, Quotient) and isinstance(b, Quotient) and a.divisor == b.divisor


MATCHERS: tuple[Matcher, ...] = (
    Matcher("sizes that differ", lambda e: e.left.size != e.right.size, _give_up),
    # What has no structure takes the other's.
    Matcher("an atom on the left", lambda e: isinstance(e.left, Atom) and not made_of(e.right, e.left), _bind_left),
    Matcher("an atom on the right", lambda e: isinstance(e.right, Atom) and not made_of(e.left, e.right), _bind_right),
    # Sizes are what must agree, not factors: these cut nothing.
    Matcher("the same sum of multiples", lambda e: e.identical, _bind_share),
    Matcher("a multiple of one atom each", lambda e: e.single and e.share is not None, _bind_share),
    # Factors that line up are kept apart, so that each may scale on its own; else one atom is written as a share of the rest.
    Matcher("products that line up", lambda e: e.are(Product, Product) and _line_up(e.left, e.right), _match_factors),
    Matcher("a multiple of one atom", lambda e: e.share is not None, _bind_share),
    # What is left is matched part by part.
    Matcher("sums", lambda e: e.are(Sum, Sum), _match_terms),
    Matcher("a product and a sum", lambda e: e.are(Product, Sum) or e.are(Sum, Product), _match_equal_parts),
    Matcher("quotients by one count", _same_divisor, _match_bases),
    Matcher("what nothing matches", bool, _give_up),
)
"""The order in which two expressions are compared; the first matcher that applies decides."""
