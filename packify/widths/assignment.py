"""The sizes of a member: which atoms scale, and to what."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from packify.widths.dims import Dim, Reason, pin


def choose_scaled(roots: Sequence[Dim]) -> None:
    """Decide which atoms scale, so that every demanded width scales by the ratio once.

    In a product the innermost factor that may change scales, and the others are structure (a head count); but one that is a layer's
    width itself, and that no layer reads as a factor again, goes its own way (a matrix that a layer makes for each sample).
    """
    merged = {atom for dim in roots if dim.kind == "*" and dim.read for factor in dim.factors() for atom in factor.atoms()}
    demanded = sorted((dim for dim in roots if dim.demands), key=lambda dim: dim.kind != "*")
    for dim in demanded:
        _Spreading(dim.demands[0], merged).scale(dim)


class _Spreading:
    """What follows when one width scales.

    Args:
        of: the layer whose width it is.
        merged: the factors of products that layers read.
    """

    def __init__(self, of: str, merged: Collection[Dim]) -> None:
        self.of, self.merged, self.done = of, merged, dict[Dim, bool]()

    def scale(self, dim: Dim) -> bool:
        """Whether any part of it scales."""
        root = dim.root()
        if root not in self.done:
            self.done[root] = self._scaled(root)
        return self.done[root]

    def _scaled(self, root: Dim) -> bool:
        if not root.kind:
            root.scaled = root.pin is None and root.size > 1
            return root.scaled
        if root.kind == "+":
            scaled = [self.scale(part) for part in root.parts]  # every part, also after one that scales
            return any(scaled)
        if root.kind == "/":
            return self.scale(root.parts[0])
        factors = root.factors()
        chosen = next((part for part in factors if any(atom.scaled for atom in part.atoms())), None)
        chosen = chosen or next((part for part in reversed(factors) if not part.is_pinned()), None)
        if chosen is None:
            return False
        scaling = set(chosen.atoms())
        for part in factors:
            if part.kind or not part.demands or part in self.merged:
                self._keep((atom for atom in part.atoms() if atom not in scaling), root.size)
        return self.scale(chosen)

    def _keep(self, atoms: Iterable[Dim], size: int) -> None:
        for atom in atoms:
            pin(atom, Reason(self.of, "", f"a factor of a width of {size} that scales by another factor"))
            atom.scaled = False


@dataclass(frozen=True)
class Step:
    """What a size must be a multiple of, and the node that asked for it last."""

    count: int = 1
    because: Reason | None = None


def assign(roots: Sequence[Dim], ratio: Fraction, round_to: int) -> dict[Dim, Step]:
    """Give every atom its size in a member: the nearest to ``ratio`` times the reference's that meets every divisibility, never 0.

    Returns:
        The steps of the atoms that have one.
    """
    multiples: dict[Dim, Step] = {}
    passed: set[tuple[Dim, int]] = set()
    for dim in roots:
        if dim.multiple > 1:
            _divide(dim, Step(dim.multiple, dim.because), multiples, passed)
    for dim in roots:
        for atom in dim.atoms():
            scales = atom.scaled and atom.pin is None
            atom.member = _nearest(atom.size, ratio, multiples.get(atom, Step()).count, round_to) if scales else atom.size
    for dim in roots:
        if dim.kind == "+" and dim.demands:
            _leave_the_rest(dim, _nearest(dim.size, ratio, dim.multiple, round_to), multiples)
    return multiples


def _nearest(size: int, ratio: Fraction, step: int, round_to: int) -> int:
    step = math.lcm(step, round_to) if size >= round_to else step
    return max(step, step * round_half_up(size * ratio / step))


def _leave_the_rest(total: Dim, wanted: int, multiples: Mapping[Dim, Step]) -> None:
    """Where no layer asks for one part of a width, it is what the other parts leave."""
    terms = total.terms()
    unasked = [term for term in terms if not term.kind and term.scaled and term.pin is None and not term.demands and term not in multiples]
    if unasked and terms.count(unasked[-1]) == 1:
        left = wanted - sum(member_size(term) for term in terms if term is not unasked[-1])
        unasked[-1].member = left if left > 0 else unasked[-1].member


def _divide(dim: Dim, step: Step, multiples: dict[Dim, Step], passed: set[tuple[Dim, int]]) -> None:
    """Pass the divisibility of a compound on to the atoms that can meet it."""
    root, count = dim.root(), step.count
    if (root, count) in passed or count == 1:
        return
    passed.add((root, count))
    if not root.kind:
        known = multiples.get(root, Step())
        multiples[root] = Step(math.lcm(known.count, count), step.because or known.because)
    elif root.kind == "+":
        for part in root.parts:
            if part.root().size % count == 0:
                _divide(part, step, multiples, passed)
    elif root.kind == "/":
        _divide(root.parts[0], replace(step, count=count * root.divisor), multiples, passed)
    else:
        parts = root.factors()
        still = math.prod(part.size for part in parts if part.is_pinned())
        moving = [part for part in parts if not part.is_pinned()]
        if moving:
            _divide(moving[-1], replace(step, count=count // math.gcd(count, still)), multiples, passed)


def round_half_up(value: Fraction) -> int:
    """The nearest whole number; of two equally near, the larger."""
    return math.floor(value + Fraction(1, 2))


def member_size(dim: Dim, known: dict[Dim, int] | None = None) -> int:
    """A dim's size in a member, once `assign` has run."""
    root = dim.root()
    if not root.kind:
        return root.member
    known = {} if known is None else known
    if root not in known:
        sizes = [member_size(part, known) for part in root.parts]
        known[root] = math.prod(sizes) if root.kind == "*" else sum(sizes) if root.kind == "+" else sizes[0] // root.divisor
    return known[root]
