"""The sizes of one member: which atoms scale, and to what. Nothing here changes the sizes of the recording, which configurations share."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from packify.widths.dims import Atom, Dim, Product, Quotient, Reason, Sum, parts_first


class Pins:
    """What keeps the reference's size in one configuration: what the recording pins, and what was learned since."""

    def __init__(self) -> None:
        self._learned: dict[Atom, Reason] = {}
        self._beside_heads: dict[Atom, Reason] = {}

    def reason(self, atom: Atom) -> Reason | None:
        """Why an atom keeps its size; None if it does not."""
        return atom.pin or self._learned.get(atom) or self._beside_heads.get(atom)

    def hold(self, dim: Dim) -> bool:
        """No part of a size can change."""
        return all(atom.size == 1 or self.reason(atom) is not None for atom in dim.atoms())

    def add(self, atoms: Iterable[Atom], reason: Reason) -> bool:
        """Keep these sizes. True if that changes anything."""
        new = [atom for atom in atoms if self.reason(atom) is None]
        self._learned.update(dict.fromkeys(new, reason))
        return bool(new)

    def keep_beside_heads(self, atoms: Iterable[Atom], reason: Reason) -> None:
        """Keep the sizes of heads whose number scales, until that is decided anew."""
        self._beside_heads.update({atom: reason for atom in atoms if self.reason(atom) is None})

    def forget_heads(self) -> None:
        """The sizes of heads are free again."""
        self._beside_heads.clear()


@dataclass(frozen=True)
class Step:
    """What a size must be a multiple of, and the node that asked for it last."""

    count: int = 1
    because: Reason | None = None

    def and_of(self, count: int, because: Reason | None) -> Step:
        """A multiple of `count` as well."""
        return Step(math.lcm(self.count, count), because or self.because) if self.count % count else self


class Sizes:
    """The sizes of one member.

    Attributes:
        steps: what atoms have to be multiples of.
    """

    def __init__(self, atoms: Mapping[Dim, int], steps: Mapping[Atom, Step]) -> None:
        self._known, self.steps = dict(atoms), steps

    def of(self, dim: Dim) -> int:
        """A dim's size in the member; what nothing decides keeps the reference's."""
        root = dim.root()
        if root not in self._known:
            for inner in parts_first(root, skip=self._known.__contains__):
                self._known[inner] = self._size(inner)
        return self._known[root]

    def step(self, dim: Dim) -> Step:
        """The strictest step of any atom of a size."""
        return max((self.steps[atom] for atom in dim.atoms() if atom in self.steps), key=lambda step: step.count, default=Step())

    def _size(self, root: Dim) -> int:
        if isinstance(root, Atom):
            return root.size
        parts = [self._known[part.root()] for part in root.parts]
        if isinstance(root, Quotient):
            return parts[0] // root.divisor
        return sum(parts) if isinstance(root, Sum) else math.prod(parts)


def choose_scaled(roots: Sequence[Dim], pins: Pins, heads: Collection[Dim] = ()) -> set[Atom]:
    """The atoms that scale, so that every demanded width scales by the ratio once. In a product one of `heads` does.

    Else the innermost factor that may change scales, and the others are structure (a head count), which is added to `pins`; but
    one that is a layer's width itself, and that no layer reads as a factor again, goes its own way (a matrix made for each sample).
    """
    merged = {atom for dim in roots if isinstance(dim, Product) and dim.read for factor in dim.factors() for atom in factor.atoms()}
    choice = _Choice(pins, merged, heads)
    for dim in sorted((dim for dim in roots if dim.demands), key=lambda dim: not isinstance(dim, Product)):
        choice.scale(dim, dim.demands[0])
    return choice.scaled


class _Choice:
    """What follows when one width scales.

    Args:
        merged: the atoms of products that layers read.
        heads: the head counts that scale.
    """

    def __init__(self, pins: Pins, merged: Collection[Dim], heads: Collection[Dim]) -> None:
        self.pins, self.merged, self.heads = pins, merged, heads
        self.scaled: set[Atom] = set()

    def scale(self, width: Dim, of: str) -> None:
        """Scale a width of a layer."""
        waiting, seen = [width.root()], set[Dim]()
        while waiting:
            root = waiting.pop()
            if root in seen:
                continue
            seen.add(root)
            if isinstance(root, Atom):
                if self.pins.reason(root) is None and root.size > 1:
                    self.scaled.add(root)
            elif isinstance(root, Product):
                waiting += self._chosen_factor(root, of)
            else:
                waiting += [part.root() for part in reversed(root.parts)]

    def _chosen_factor(self, root: Product, of: str) -> list[Dim]:
        factors = root.factors()
        counted = next((part for part in factors if part in self.heads), None)
        chosen = counted or next((part for part in factors if any(atom in self.scaled for atom in part.atoms())), None)
        chosen = chosen or next((part for part in reversed(factors) if not self.pins.hold(part)), None)
        if chosen is None:
            return []
        scaling = set(chosen.atoms())
        for part in factors:
            if not isinstance(part, Atom) or not part.demands or part in self.merged:
                kept = [atom for atom in part.atoms() if atom not in scaling]
                reason = Reason(of, "", f"a factor of a width of {root.size} that scales by another factor")
                self.pins.add(kept, reason) if counted is None else self.pins.keep_beside_heads(kept, reason)
                self.scaled.difference_update(kept)
        return [chosen]


def assign(
    roots: Sequence[Dim], ratio: Fraction, round_to: int, pins: Pins, asked: Mapping[Dim, Step], heads: Collection[Dim] = ()
) -> Sizes:
    """Give every atom its size in a member: the nearest to ``ratio`` times the reference's that meets every divisibility, never 0.

    Args:
        roots: every size, atoms and compounds.
        asked: sizes that must be multiples of something in this configuration, besides what the recording asks for.
        heads: the head counts that scale; `round_to` is about the widths that they are factors of.
    """
    steps = {root: asked.get(root, Step(root.multiple, root.because)) for root in roots}
    scaled = [atom for atom in choose_scaled(roots, pins, heads) if pins.reason(atom) is None]
    passed_on = _passed_on({root: step for root, step in steps.items() if step.count > 1}, pins)
    atoms: dict[Dim, int] = {
        atom: _nearest(atom.size, ratio, passed_on.get(atom, Step()).count, 1 if atom in heads else round_to) for atom in scaled
    }
    for root in roots:
        if isinstance(root, Sum) and root.demands:
            atoms |= _the_rest(root, _nearest(root.size, ratio, steps[root].count, round_to), atoms, passed_on)
    return Sizes(atoms, passed_on)


def _nearest(size: int, ratio: Fraction, step: int, round_to: int) -> int:
    step = math.lcm(step, round_to) if size >= round_to else step
    return max(step, step * round_half_up(size * ratio / step))


def _the_rest(width: Sum, wanted: int, atoms: Mapping[Dim, int], steps: Mapping[Atom, Step]) -> dict[Dim, int]:
    """Where no layer asks for one part of a width, it is what the other parts leave."""
    terms = width.terms()
    unasked = [term for term in terms if term in atoms and not term.demands and term not in steps]
    if not unasked or terms.count(unasked[-1]) > 1:
        return {}
    sizes = Sizes(atoms, steps)
    left = wanted - sum(sizes.of(term) for term in terms if term is not unasked[-1])
    return {unasked[-1]: left} if left > 0 else {}


def _passed_on(asked: Mapping[Dim, Step], pins: Pins) -> dict[Atom, Step]:
    """The divisibility of compounds, said of the atoms that can meet it."""
    steps: dict[Atom, Step] = {}
    passed: set[tuple[Dim, int]] = set()
    for dim, step in asked.items():
        waiting = [(dim, step)]
        while waiting:
            root, step = waiting.pop()
            if (root, step.count) in passed or step.count == 1:
                continue
            passed.add((root, step.count))
            if isinstance(root, Atom):
                known = steps.get(root, Step())
                steps[root] = Step(math.lcm(known.count, step.count), step.because or known.because)
            else:
                waiting += reversed(list(_below(root, step, pins)))
    return steps


def _below(root: Dim, step: Step, pins: Pins) -> Iterable[tuple[Dim, Step]]:
    """What a compound's divisibility asks of its parts."""
    if isinstance(root, Sum):
        return [(part.root(), step) for part in root.parts if part.root().size % step.count == 0]
    if isinstance(root, Quotient):
        return [(root.base, replace(step, count=step.count * root.divisor))]
    factors = root.factors()
    moving = [part for part in factors if not pins.hold(part)]
    still = math.prod(part.size for part in factors if part not in moving)
    return [(part, replace(step, count=step.count // math.gcd(step.count, still))) for part in moving[-1:]]


def round_half_up(value: Fraction) -> int:
    """The nearest whole number; of two equally near, the larger."""
    return math.floor(value + Fraction(1, 2))
