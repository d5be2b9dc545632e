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

    __slots__ = ("because", "demands", "divisor", "kind", "member", "multiple", "parent", "parts", "pin", "read", "scaled", "size")

    def __init__(self, size: int, kind: str = "", parts: Sequence[Dim] = (), pin: Reason | None = None, divisor: int = 1) -> None:
        self.size = size
        self.kind = kind
        self.parts = list(parts)
        self.pin = pin
        self.divisor = divisor
        self.multiple = 1
        self.because: Reason | None = None
        self.demands: list[str] = []
        self.read = False
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
        """The atoms this size is made of, each once; parts may be shared, so each is looked into once."""
        waiting, seen = [self.root()], {self.root()}
        while waiting:
            dim = waiting.pop()
            if not dim.kind:
                yield dim
            for part in dim.parts:
                root = part.root()
                if root not in seen:
                    seen.add(root)
                    waiting.append(root)

    def factors(self) -> list[Dim]:
        """What this size is the product of, outermost first, products within products taken apart."""
        root = self.root()
        return [factor for part in root.parts for factor in part.factors()] if root.kind == "*" else [root]

    def terms(self) -> list[Dim]:
        """What this size is the sum of, in order, sums within sums taken apart."""
        root = self.root()
        return [term for part in root.parts for term in part.terms()] if root.kind == "+" else [root]

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
    factors = [factor for dim in dims for factor in dim.factors() if factor.size != 1]
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


def quotient(dim: Dim, divisor: int, reason: Reason | None = None) -> Dim:
    """The size of one of `divisor` equal groups of an axis."""
    root = dim.root()
    require_multiple(root, divisor, reason)
    return root if divisor == 1 else multiple(root, Fraction(1, divisor))


def pin(dim: Dim, reason: Reason) -> bool:
    """Keep a size as the reference has it. True if that changes anything."""
    changed = False
    for atom in dim.atoms():
        if atom.pin is None:
            atom.pin, changed = reason, True
    return changed


def require_multiple(dim: Dim, count: int, reason: Reason | None = None) -> None:
    """The size stays divisible by `count`."""
    root = dim.root()
    if root.multiple % count:
        root.multiple, root.because = math.lcm(root.multiple, count), reason or root.because


def multiple(base: Dim, ratio: Fraction) -> Dim:
    """`ratio` times a size, said of the factors that are left once the others cancel."""
    factors = []
    for factor in base.factors():
        common = math.gcd(factor.size, ratio.denominator) if not factor.kind and factor.pin is not None else 1
        ratio *= common
        factors.append(fixed(factor.size // common, factor.pin or GIVEN) if common > 1 else factor)
    whole = product([fixed(ratio.numerator), *factors])
    return whole if ratio.denominator == 1 else Dim(whole.size // ratio.denominator, "/", [whole], divisor=ratio.denominator)
