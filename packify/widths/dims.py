"""The sizes of a network as expressions: an atom, a product, a sum, or a quotient of other sizes.

Every axis of every tensor of the reference is a `Dim`. Propagating widths through the graph equates the dims that must stay equal
(`packify.widths.matching`); afterwards each configuration gives every atom its size in a member (`packify.widths.assignment`). An
axis never needs to know which layers touch it: equality is kept by union-find, and the structure below an axis (heads x head size,
branch + branch) by its parts. Nothing here recurses: shares of shares nest as deep as a network has blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Reason:
    """Why a size may not change: the node (qualified name), its source line, and the reason in words."""

    node: str
    source: str
    why: str


class Dim:
    """One size: an `Atom`, `Product`, `Sum` or `Quotient`, or, once it is found equal to another one, a name for that one.

    Attributes:
        size: the reference's.
        parts: what a compound is made of.
        multiple: the size stays a multiple of this.
        because: who asked for that last.
        demands: the layers whose width it is.
        read: a layer with weights sums over it.
        batched: the nodes that multiply activations for each position of it alone: of a width's factors, such a one counts heads.
        cuts: every way in which an axis of this size is taken apart somewhere: the pieces, in order, and how many there are of each.
        joins: every way in which an axis of this size is made of others, end to end.
        apart: single elements of such an axis are read.
        parent: the dim that this one was found equal to.
    """

    __slots__ = ("apart", "batched", "because", "cuts", "demands", "joins", "multiple", "parent", "parts", "read", "size")

    def __init__(self, size: int, parts: Sequence[Dim] = ()) -> None:
        self.size = size
        self.parts = tuple(parts)
        self.multiple = 1
        self.because: Reason | None = None
        self.demands: list[str] = []
        self.read = False
        self.batched: list[str] = []
        self.cuts: list[tuple[tuple[Dim, int], ...]] = []
        self.joins: list[tuple[Dim, ...]] = []
        self.apart = False
        self.parent: Dim | None = None

    def root(self) -> Dim:
        """The dim that stands for all that are equal to this one."""
        dim = self
        while dim.parent is not None:
            if dim.parent.parent is not None:
                dim.parent = dim.parent.parent
            dim = dim.parent
        return dim

    def atoms(self) -> Iterator[Atom]:
        """The atoms this size is made of, each once; parts may be shared, so each is looked into once."""
        waiting, seen = [self.root()], {self.root()}
        while waiting:
            dim = waiting.pop()
            if isinstance(dim, Atom):
                yield dim
            for part in dim.parts:
                root = part.root()
                if root not in seen:
                    seen.add(root)
                    waiting.append(root)

    def factors(self) -> list[Dim]:
        """What this size is the product of, outermost first, products within products taken apart."""
        return self._apart(Product)

    def terms(self) -> list[Dim]:
        """What this size is the sum of, in order, sums within sums taken apart."""
        return self._apart(Sum)

    def _apart(self, kind: type[Dim]) -> list[Dim]:
        found, waiting = [], [self]
        while waiting:
            root = waiting.pop().root()
            if isinstance(root, kind):
                waiting.extend(reversed(root.parts))
            else:
                found.append(root)
        return found

    def is_pinned(self) -> bool:
        """No part of it can change."""
        return all(atom.pin is not None or atom.size == 1 for atom in self.atoms())

    def __repr__(self) -> str:
        root = self.root()
        return repr(root) if root is not self else f"{type(self).__name__}({self.size})"


class Atom(Dim):
    """A size without structure; `pin` says why it keeps the reference's, if it does."""

    __slots__ = ("pin",)

    def __init__(self, size: int, pin: Reason | None = None) -> None:
        super().__init__(size)
        self.pin = pin

    def __repr__(self) -> str:
        return super().__repr__() if self.parent is not None else f"{self.size}!" if self.pin else f"{self.size}"


class Product(Dim):
    """The size of axes merged into one, outermost factor first."""

    __slots__ = ()

    def __init__(self, parts: Sequence[Dim]) -> None:
        super().__init__(math.prod(part.root().size for part in parts), parts)

    def __repr__(self) -> str:
        return super().__repr__() if self.parent is not None else "(" + " * ".join(_short(part) for part in self.parts) + ")"


class Sum(Dim):
    """The size of axes joined end to end, in order."""

    __slots__ = ()

    def __init__(self, parts: Sequence[Dim]) -> None:
        super().__init__(sum(part.root().size for part in parts), parts)

    def __repr__(self) -> str:
        return super().__repr__() if self.parent is not None else "(" + " + ".join(_short(part) for part in self.parts) + ")"


class Quotient(Dim):
    """A size over a count that divides it."""

    __slots__ = ("divisor",)

    def __init__(self, base: Dim, divisor: int) -> None:
        super().__init__(base.root().size // divisor, (base,))
        self.divisor = divisor

    @property
    def base(self) -> Dim:
        """What is divided."""
        return self.parts[0].root()

    def say_of(self, base: Dim, divisor: int) -> None:
        """Write the same size as a quotient of something simpler."""
        self.parts, self.divisor = (base,), divisor

    def __repr__(self) -> str:
        return super().__repr__() if self.parent is not None else f"({_short(self.base)} / {self.divisor})"


def _short(dim: Dim) -> str:
    """An atom as it is, a compound by its size: expressions may be as deep as the network."""
    root = dim.root()
    return repr(root) if isinstance(root, Atom) else f"{type(root).__name__}({root.size})"


GIVEN = Reason("", "", "it is set by the input, the batch or the graph's structure")


def parts_first(dim: Dim, skip: Callable[[Dim], bool]) -> Iterator[Dim]:
    """This size's root and all that it is made of, each once, what a compound is made of before the compound.

    Args:
        skip: what is known already, and not looked into.
    """
    waiting: list[tuple[Dim, bool]] = [(dim.root(), False)]
    seen: set[Dim] = set()
    while waiting:
        root, opened = waiting.pop()
        if opened:
            yield root
        elif root not in seen and not skip(root):
            seen.add(root)
            waiting.append((root, True))
            waiting.extend((part.root(), False) for part in reversed(root.parts))


def wholes_first(dims: Iterable[Dim]) -> Iterator[Dim]:
    """The roots of these sizes and all that they are made of, each once, in the order in which a walk down from each meets them."""
    seen: set[Dim] = set()
    for dim in dims:
        waiting = [dim.root()]
        while waiting:
            root = waiting.pop()
            if root not in seen:
                seen.add(root)
                yield root
                waiting.extend(part.root() for part in reversed(root.parts))


def made_of(whole: Dim, part: Dim) -> bool:
    """`part` is somewhere below `whole`."""
    root = part.root()
    return whole.root() is not root and any(inner is root for inner in wholes_first([whole]))


def fixed(size: int, reason: Reason = GIVEN) -> Dim:
    """A size that is structure: a batch, a resolution, a count."""
    return Atom(size, reason)


def free(size: int) -> Dim:
    """A size that takes its partner's."""
    return Atom(size)


def product(dims: Iterable[Dim]) -> Dim:
    """The size of axes merged into one, outermost first."""
    factors = [factor for dim in dims for factor in dim.factors() if factor.size != 1]
    if len(factors) == 1:
        return factors[0]
    return Product(factors) if factors else fixed(1)


def total(dims: Sequence[Dim]) -> Dim:
    """The size of axes joined end to end."""
    if len(dims) == 1:
        return dims[0].root()
    parts = tuple(dim.root() for dim in dims)
    whole = fixed(sum(part.size for part in parts)) if all(part.is_pinned() for part in parts) else Sum(parts)
    whole.joins.append(parts)
    return whole


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
    factors: list[Dim] = []
    for factor in base.factors():
        pinned = factor.pin if isinstance(factor, Atom) else None
        common = math.gcd(factor.size, ratio.denominator) if pinned is not None else 1
        ratio *= common
        factors.append(fixed(factor.size // common, pinned or GIVEN) if common > 1 else factor)
    whole = product([fixed(ratio.numerator), *factors])
    return whole if ratio.denominator == 1 else Quotient(whole, ratio.denominator)
