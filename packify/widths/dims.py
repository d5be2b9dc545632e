"""The sizes of a network as unknowns: what a reshape splits is a product, what a concatenation joins is a sum, what meets is equal.

Every axis of every tensor of the reference is a `Dim`. Walking the graph once equates the dims that must stay equal;
afterwards `Dims.assign` gives each its size in a member. An axis never needs to know which layers touch it: equality is
kept by union-find, and the structure below an axis (heads x head size, branch + branch) by its parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Reason:
    """Why a size may not change: the node (qualified name), its source line, and the reason in words."""

    node: str
    source: str
    why: str


class Dim:
    """One size. An atom, or a compound of parts: ``"*"`` (outermost factor first), ``"+"`` (in order), ``"/"`` (base over a count)."""

    __slots__ = ("demands", "divisor", "kind", "member", "multiple", "parent", "parts", "pin", "scaled", "size")

    def __init__(self, size: int, kind: str = "", parts: Sequence[Dim] = (), pin: Reason | None = None, divisor: int = 1) -> None:
        self.size = size
        self.kind = kind
        self.parts = list(parts)
        self.pin = pin
        self.divisor = divisor
        self.multiple = 1
        self.demands: list[str] = []
        self.scaled = False
        self.member = size
        self.parent: Dim | None = None

    def root(self) -> Dim:
        """The dim that stands for all that are equal to this one."""
        dim = self
        while dim.parent is not None:
            if dim.parent.parent is not None:
                dim.parent = dim.parent.parent
            dim = dim.parent
        return dim

    def atoms(self) -> Iterator[Dim]:
        """The atoms this size is made of."""
        dim = self.root()
        if dim.kind:
            for part in dim.parts:
                yield from part.atoms()
        else:
            yield dim

    def is_pinned(self) -> bool:
        """No part of it can change."""
        return all(atom.pin is not None or atom.size == 1 for atom in self.atoms())

    def __repr__(self) -> str:
        dim = self.root()
        if dim.kind:
            return "(" + f" {dim.kind} ".join(map(repr, dim.parts)) + (f"{dim.divisor}" if dim.kind == "/" else "") + ")"
        return f"{dim.size}{'!' if dim.pin else ''}{'~' if dim.scaled else ''}"


GIVEN = Reason("", "", "it is set by the input, the batch or the graph's structure")


def fixed(size: int, reason: Reason = GIVEN) -> Dim:
    """A size that is structure: a batch, a resolution, a count."""
    return Dim(size, pin=reason)


def free(size: int) -> Dim:
    """A size that takes its partner's."""
    return Dim(size)


def product(dims: Iterable[Dim]) -> Dim:
    """The size of axes merged into one, outermost first."""
    factors: list[Dim] = []
    for dim in dims:
        root = dim.root()
        factors.extend(root.parts if root.kind == "*" else [root] if root.size != 1 else [])
    factors = [part.root() for part in factors]
    if len(factors) == 1:
        return factors[0]
    if not factors:
        return fixed(1)
    return Dim(math.prod(part.size for part in factors), "*", factors)


def total(dims: Sequence[Dim]) -> Dim:
    """The size of axes joined end to end."""
    if len(dims) == 1:
        return dims[0].root()
    if all(dim.is_pinned() for dim in dims):
        return fixed(sum(dim.root().size for dim in dims))
    return Dim(sum(dim.root().size for dim in dims), "+", [dim.root() for dim in dims])


def quotient(dim: Dim, divisor: int) -> Dim:
    """The size of one of `divisor` equal groups of an axis."""
    root = dim.root()
    require_multiple(root, divisor)
    return root if divisor == 1 else Dim(root.size // divisor, "/", [root], divisor=divisor)


def pin(dim: Dim, reason: Reason) -> bool:
    """Keep a size as the reference has it. True if that changes anything."""
    changed = False
    for atom in dim.atoms():
        if atom.pin is None:
            atom.pin, changed = reason, True
    return changed


def require_multiple(dim: Dim, count: int) -> None:
    """The size stays divisible by `count`."""
    root = dim.root()
    root.multiple = math.lcm(root.multiple, count)


def split_product(dim: Dim, sizes: Sequence[int], reason: Reason = GIVEN) -> list[Dim]:
    """The factors of an axis that is reshaped into several, outermost first."""
    parts = [free(size) if size != 1 else fixed(1) for size in sizes]
    equate(dim, product(parts), reason)
    return parts


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
    elif a.kind == "*" and b.kind == "*":
        _match_products(a, b, reason)
    elif a.kind == "+" and b.kind == "+":
        _match_totals(a, b, reason)
    elif {a.kind, b.kind} == {"*", "+"}:
        _match_product_with_total(*((a, b) if a.kind == "*" else (b, a)), reason)
    elif a.kind == "/" and b.kind == "/" and a.divisor == b.divisor:
        equate(a.parts[0], b.parts[0], reason)
        a.parent = b
    else:
        _give_up(a, b, reason)


def _bind(atom: Dim, other: Dim) -> None:
    """Replace an atom by what it is equal to, which inherits everything required of it."""
    if any(part is atom for part in other.atoms()):
        return
    atom.parent = other
    other.multiple = math.lcm(other.multiple, atom.multiple)
    other.demands += atom.demands
    if atom.pin is not None:
        pin(other, atom.pin)


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
    a.parent = b
    b.multiple = math.lcm(a.multiple, b.multiple)
    b.demands += a.demands


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
    a.parent = b
    b.multiple = math.lcm(a.multiple, b.multiple)
    b.demands += a.demands


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
    b.parent = a
    a.multiple = math.lcm(a.multiple, b.multiple)
    a.demands += b.demands


# -- sizes of a member ---------------------------------------------------------------------------------------------------


def spread(roots: Sequence[Dim]) -> None:
    """Decide which atoms scale, so that every demanded width scales by the ratio once.

    In a product the innermost factor that may change scales, and the others are structure (a head count).
    """
    demanded = sorted((dim for dim in roots if dim.demands), key=lambda dim: dim.kind != "*")
    for dim in demanded:
        _scale(dim)


def _scale(dim: Dim) -> bool:
    root = dim.root()
    if not root.kind:
        root.scaled = root.pin is None and root.size > 1
        return root.scaled
    if root.kind == "+":
        scaled = [_scale(part) for part in root.parts]  # every part, also after one that scales
        return any(scaled)
    if root.kind == "/":
        return _scale(root.parts[0])
    factors = [part.root() for part in root.parts]
    chosen = next((part for part in factors if any(atom.scaled for atom in part.atoms())), None)
    chosen = chosen or next((part for part in reversed(factors) if not part.is_pinned()), None)
    if chosen is None:
        return False
    for part in factors:
        if part is not chosen:
            pin(part, Reason("", "", f"a factor of a width of {root.size} that scales by another factor"))
            for atom in part.atoms():
                atom.scaled = False
    return _scale(chosen)


def assign(roots: Sequence[Dim], ratio: Fraction, round_to: int) -> None:
    """Give every atom its size in a member: the nearest to ``ratio`` times the reference's that meets every divisibility, never 0."""
    multiples: dict[Dim, int] = {}
    for dim in roots:
        if dim.multiple > 1:
            _divide(dim, dim.multiple, multiples)
    for dim in roots:
        for atom in dim.atoms():
            if atom.scaled and atom.pin is None:
                step = multiples.get(atom, 1)
                step = math.lcm(step, round_to) if atom.size >= round_to else step
                atom.member = max(step, step * round_half_up(atom.size * ratio / step))
            else:
                atom.member = atom.size


def _divide(dim: Dim, count: int, multiples: dict[Dim, int]) -> None:
    """Pass the divisibility of a compound on to the atoms that can meet it."""
    root = dim.root()
    if not root.kind:
        multiples[root] = math.lcm(multiples.get(root, 1), count)
    elif root.kind == "+":
        for part in root.parts:
            if part.root().size % count == 0:
                _divide(part, count, multiples)
    elif root.kind == "/":
        _divide(root.parts[0], count * root.divisor, multiples)
    else:
        parts = [part.root() for part in root.parts]
        still = math.prod(part.size for part in parts if part.is_pinned())
        moving = [part for part in parts if not part.is_pinned()]
        if moving:
            _divide(moving[-1], count // math.gcd(count, still), multiples)


def round_half_up(value: Fraction) -> int:
    """The nearest whole number; of two equally near, the larger."""
    return math.floor(value + Fraction(1, 2))


def member_size(dim: Dim) -> int:
    """A dim's size in a member, once `assign` has run."""
    root = dim.root()
    if not root.kind:
        return root.member
    sizes = [member_size(part) for part in root.parts]
    if root.kind == "*":
        return math.prod(sizes)
    return sum(sizes) if root.kind == "+" else sizes[0] // root.divisor
