"""Sizes that must agree: how two structures are matched, and how an axis is taken apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from packify.widths.dims import GIVEN, Dim, Reason, fixed, free, multiple, pin, product, require_multiple, total


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
    return found


def equal_share(dim: Dim, count: int, reason: Reason = GIVEN) -> Dim:
    """The size of one of `count` equal parts of an axis, wherever they lie in it."""
    share = free(dim.root().size // count)
    equate(dim, product([fixed(count, reason), share]), reason)
    return share


def split_total(dim: Dim, sizes: Sequence[int], reason: Reason = GIVEN) -> list[Dim]:
    """The pieces of an axis that is cut into several."""
    if dim.is_pinned():
        return [fixed(size) for size in sizes]
    parts = [free(size) for size in sizes]
    kept = [part for part in parts if part.size]
    equate(dim, kept[0] if len(kept) == 1 else Dim(sum(sizes), "+", kept), reason)
    return parts


def equate(left: Dim, right: Dim, reason: Reason = GIVEN) -> None:
    """Two sizes that must stay equal. Where their structures cannot be matched, both keep the reference's size."""
    a, b = left.root(), right.root()
    if a is b:
        return
    if a.size != b.size:
        _give_up(a, b, reason)
    elif not a.kind:
        _bind(a, b)
    elif not b.kind:
        _bind(b, a)
    elif _match_single_multiples(a, b):
        return
    elif a.kind == "*" and b.kind == "*" and _lines_up(a, b):
        _match_products(a, b, reason)
    elif _match_multiples(a, b):
        return
    elif a.kind == "*" and b.kind == "*":
        _match_products(a, b, reason)
    elif a.kind == "+" and b.kind == "+":
        _match_totals(a, b, reason)
    elif {a.kind, b.kind} == {"*", "+"}:
        _match_product_with_total(*((a, b) if a.kind == "*" else (b, a)), reason)
    elif a.kind == "/" and b.kind == "/" and a.divisor == b.divisor:
        equate(a.parts[0], b.parts[0], reason)
        _merge(a, b)
    else:
        _give_up(a, b, reason)


def suggest(left: Dim, right: Dim) -> None:
    """Two sizes that the code writes as one number: they are equated where nothing in their structure speaks against it."""
    a, b = left.root(), right.root()
    if a is b or a.size != b.size:
        return
    if not a.kind or not b.kind:
        _bind(*((a, b) if not a.kind else (b, a)))
    else:
        _match_multiples(a, b)


Terms = dict[Dim, Fraction]


def linear(dim: Dim, known: dict[Dim, Terms | None] | None = None) -> Terms | None:
    """A size as a sum of rational multiples of atoms that may change; None if two factors of a product may."""
    known = {} if known is None else known
    root = dim.root()
    if root not in known:
        terms = known[root] = _linear(root, known)
        if root.kind == "/" and terms is not None and len(terms) == 1:
            ((atom, ratio),) = terms.items()  # say it of the atom itself, so that chains of shares stay short
            if atom is _ONE:
                atom, ratio = fixed(root.size, next((part.pin for part in root.atoms() if part.pin), GIVEN)), Fraction(1)
            root.parts, root.divisor = [product([fixed(ratio.numerator), atom])], ratio.denominator
    return known[root]


def _linear(root: Dim, known: dict[Dim, Terms | None]) -> Terms | None:
    if not root.kind:
        return {root: Fraction(1)} if not root.is_pinned() else {_ONE: Fraction(root.size)}
    if root.kind == "*":
        moving = [part for part in root.parts if not part.is_pinned()]
        if len(moving) > 1:
            return None
        still = math.prod(part.root().size for part in root.parts if part.is_pinned())
        inner = linear(moving[0], known) if moving else {_ONE: Fraction(1)}
        return None if inner is None else {atom: count * still for atom, count in inner.items()}
    terms: Terms = {}
    for part in root.parts:
        inner = linear(part, known)
        if inner is None:
            return None
        for atom, count in inner.items():
            terms[atom] = terms.get(atom, Fraction(0)) + count / root.divisor
    return terms


_ONE = Dim(1)


def _match_multiples(a: Dim, b: Dim) -> bool:
    """Sizes are what must agree, not factors: equal sums of multiples are equal, and ``2 x == y`` makes x half of y."""
    left, right = linear(a), linear(b)
    if left is not None and left == right:
        return True
    for terms, other in ((left, b), (right, a)):
        if terms is None or len(terms) != 1:
            continue
        (atom, count), *_ = terms.items()
        if atom is _ONE or any(part is atom for part in other.atoms()):
            continue
        ratio, base = 1 / count, other
        opposite = right if terms is left else left
        if opposite is not None and len(opposite) == 1 and _ONE not in opposite:  # a multiple of one atom: say it of that atom
            ((base, times),) = opposite.items()
            ratio *= times
        require_multiple(base, ratio.denominator)
        _bind(atom, multiple(base, ratio))
        return True
    return False


def _match_single_multiples(a: Dim, b: Dim) -> bool:
    """Both are multiples of one atom each, or the same sum."""
    left, right = linear(a), linear(b)
    return left is not None and right is not None and (left == right or len(left) == len(right) == 1) and _match_multiples(a, b)


def _lines_up(a: Dim, b: Dim) -> bool:
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


def _bind(atom: Dim, other: Dim) -> None:
    """Replace an atom by what it is equal to, which inherits everything required of it."""
    if any(part is atom for part in other.atoms()):
        return
    atom.parent = other
    require_multiple(other, atom.multiple, atom.because)
    other.demands += atom.demands
    other.read = other.read or atom.read
    if atom.pin is not None:
        pin(other, atom.pin)


def _merge(compound: Dim, other: Dim) -> None:
    """Let one compound stand for another that was found equal, unless one is made of the other."""
    a, b = compound.root(), other.root()
    if a is b or _made_of(a, b) or _made_of(b, a):
        return
    a.parent = b
    require_multiple(b, a.multiple, a.because)
    b.demands += a.demands
    b.read = b.read or a.read


def _made_of(whole: Dim, part: Dim) -> bool:
    waiting, seen = [whole], {whole}
    while waiting:
        for inner in waiting.pop().parts:
            root = inner.root()
            if root is part:
                return True
            if root not in seen:
                seen.add(root)
                waiting.append(root)
    return False


def _give_up(a: Dim, b: Dim, reason: Reason) -> None:
    why = Reason(reason.node, reason.source, f"{reason.why}; the ways in which {a.size} is cut up do not match")
    pin(a, why)
    pin(b, why)


def _match_products(a: Dim, b: Dim, reason: Reason) -> None:
    left, right = [part.root() for part in a.parts], [part.root() for part in b.parts]
    while left and right:
        x, y = left.pop(0).root(), right.pop(0).root()
        if x.kind == "*":
            left[:0], right[:0] = x.parts, [y]
        elif y.kind == "*":
            left[:0], right[:0] = [x], y.parts
        elif x.size == y.size:
            equate(x, y, reason)
        elif y.size % x.size == 0:
            right = [*_cut(y, x, reason), *right]
        elif x.size % y.size == 0:
            left = [*_cut(x, y, reason), *left]
        else:
            _give_up(a, b, reason)
            return
    _merge(a, b)


def _cut(big: Dim, outer: Dim, reason: Reason) -> list[Dim]:
    """Split `big` into ``outer * rest`` and return what is left to match."""
    rest = free(big.size // outer.size)
    equate(big, product([outer, rest]), reason)
    return [rest]


def _match_totals(a: Dim, b: Dim, reason: Reason) -> None:
    left, right = [part.root() for part in a.parts], [part.root() for part in b.parts]
    while left and right:
        x, y = left.pop(0).root(), right.pop(0).root()
        if x.kind == "+":
            left[:0], right[:0] = x.parts, [y]
        elif y.kind == "+":
            left[:0], right[:0] = [x], y.parts
        elif x.size == y.size:
            equate(x, y, reason)
        elif x.size < y.size:
            rest = free(y.size - x.size)
            equate(y, Dim(y.size, "+", [x, rest]), reason)
            right.insert(0, rest)
        else:
            rest = free(x.size - y.size)
            equate(x, Dim(x.size, "+", [y, rest]), reason)
            left.insert(0, rest)
    _merge(a, b)


def _match_product_with_total(a: Dim, b: Dim, reason: Reason) -> None:
    """``3 * d`` against ``d + d + d``, or ``4 * d`` against ``d + 3 d``."""
    outer, inner = a.parts[0].root(), product(a.parts[1:])
    if any(part.root().size % inner.size for part in b.parts):
        _give_up(a, b, reason)
        return
    pin(outer, Reason(reason.node, reason.source, "a count of equal parts"))
    for part in b.parts:
        count = part.root().size // inner.size
        equate(part, product([fixed(count), inner]), reason)
    _merge(b, a)
