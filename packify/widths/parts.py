"""Parts of an axis: the pieces that a layer's output is later cut into, each of which gamma cuts as if it were a layer of its own.

Of a fused q|k|v projection with gamma = 2, cut as one axis, q would be made of the first half of the input alone. So its rows, q|k|v as the
reference has them, are q0 q1 | k0 k1 | v0 v1: subgroup 0 of each part reads subgroup 0 of the input.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property

from packify.widths.assignment import Pins, Sizes
from packify.widths.dims import Atom, Dim, Product

Borders = frozenset[int] | None
"""The positions inside an axis where one part ends and the next begins; None where single elements are parts, which nothing can cut."""


class PartFinder:
    """The parts of one member's axes.

    Args:
        roots: every size, compounds before what they are made of.
        sizes: the member's.
        pins: what keeps the reference's size.
        gamma: what each part is to be cut into; it decides where heads are torn apart, so that each is a part.
    """

    def __init__(self, roots: Sequence[Dim], sizes: Sizes, pins: Pins, gamma: int) -> None:
        self.roots, self.sizes, self.pins, self.gamma = roots, sizes, pins, gamma
        self._known: dict[Dim, Borders] = {}

    def parts(self, width: Dim, groups: int = 1) -> tuple[int, ...] | None:
        """The sizes of the parts of each of `groups` equal blocks of an axis; None where gamma cannot cut all of them evenly."""
        size, borders = self.sizes.of(width), self._borders(width.root())
        block, rest = divmod(size, groups)
        if borders is None or rest:
            return None
        ends = sorted({*borders, *range(block, size, block), size})
        lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        blocks = list(_by_block(lengths, block))
        return blocks[0] if all(one == blocks[0] for one in blocks) and not any(length % self.gamma for length in blocks[0]) else None

    def _borders(self, root: Dim) -> Borders:
        return _together(self._own(root), self._from_wholes.get(root, frozenset()))

    def _own(self, root: Dim) -> Borders:
        """Where an axis of this size is taken apart itself, or its pieces are."""
        if root not in self._known:
            self._known[root] = self._worked_out(root)
        return self._known[root]

    def _worked_out(self, root: Dim) -> Borders:
        if root.apart and self.sizes.of(root) > 1:
            return None
        found = set(self._from_merged.get(root, ()))
        for cut in root.cuts:
            end = 0
            for piece in (piece.root() for piece, count in cut for _ in range(count)):
                inner = frozenset[int]() if piece is root else self._own(piece)
                if inner is None:
                    return None
                found |= {end, *(end + border for border in inner)}
                end += self.sizes.of(piece)
            if end != self.sizes.of(root):
                return None
        if isinstance(root, Product):
            factors = self._of_factors(root)
            if factors is None:
                return None
            found |= factors
        return frozenset(found - {0, self.sizes.of(root)})

    def _of_factors(self, root: Product) -> Borders:
        """A reshape to (parts, ..., what gamma cuts, ...).

        Factors that do not scale count parts. Of heads gamma cuts the count where it divides it; else each head is a part. What gamma
        cuts has an element for each subgroup, whatever is cut behind it.
        """
        factors = [factor for factor in root.factors() if self.sizes.of(factor) != 1]
        unit = self.sizes.of(root)
        for place, factor in enumerate(factors, 1):
            size, own = self.sizes.of(factor), self._own(factor)
            inner = unit // size
            if place == len(factors) or not self._counts_parts(factor, own):
                if own is None or size < self.gamma:
                    return None
                starts = range(0, self.sizes.of(root), unit)
                return frozenset({*starts, *(start + border * inner for start in starts for border in own)} - {0})
            unit = inner
        return frozenset()

    def _counts_parts(self, factor: Dim, own: Borders) -> bool:
        """A factor with others behind it is not cut, but each of its elements is a part."""
        if own is None:
            return True
        if isinstance(factor, Atom) and factor.batched:
            return any(border % self.gamma for border in (*own, self.sizes.of(factor)))
        return self.pins.hold(factor)

    @cached_property
    def _from_merged(self) -> dict[Dim, set[int]]:
        """What is taken apart after it was merged with others: of shuffled channels ``(c g)`` the halves are made of the halves of c."""
        found: dict[Dim, set[int]] = {}
        for root in (root for root in self.roots if root.cuts and isinstance(root, Product)):
            sizes = [[self.sizes.of(piece) for piece, count in cut for _ in range(count)] for cut in root.cuts]
            ends = {end for cut in sizes for end in itertools.accumulate(cut)}
            unit = self.sizes.of(root)
            for factor in root.factors():
                whole, unit = unit, unit // self.sizes.of(factor)
                inside = {end % whole // unit for end in ends if end % unit == 0} - {0}
                if inside:
                    found[factor] = found.get(factor, set()) | inside
        return found

    @cached_property
    def _from_wholes(self) -> dict[Dim, Borders]:
        """What is taken apart after it was joined with others has been cut there as well."""
        found: dict[Dim, Borders] = {}
        waiting = [root for root in self.roots if root.joins and self._own(root) != frozenset()]
        while waiting:
            root = waiting.pop()
            borders = _together(self._own(root), found.get(root, frozenset()))
            for part, start in self._joined(root):
                end = start + self.sizes.of(part)
                inside = None if borders is None else frozenset(border - start for border in borders if start < border < end)
                known = found.get(part, frozenset())
                found[part] = _together(known, inside)
                if found[part] != known and part.joins:
                    waiting.append(part)
        return found

    def _joined(self, root: Dim) -> Iterator[tuple[Dim, int]]:
        """What an axis was made of, and where each begins."""
        for parts in root.joins:
            start = 0
            for part in (part.root() for part in parts):
                yield part, start
                start += self.sizes.of(part)


def _together(one: Borders, other: Borders) -> Borders:
    return None if one is None or other is None else one | other


def _by_block(lengths: list[int], block: int) -> Iterator[tuple[int, ...]]:
    """Lengths, put together until they make a block."""
    taken: list[int] = []
    for length in lengths:
        taken.append(length)
        if sum(taken) == block:
            yield tuple(taken)
            taken = []


def divisible(width: Dim, gamma: int) -> Iterator[tuple[Dim, int]]:
    """The sizes, with what each has to be a multiple of, so that gamma can cut every part of a width, as far as the recording tells."""
    root = width.root()
    yield root, gamma * _leading(root)
    for piece in itertools.chain.from_iterable(root.cuts):
        if piece[0].root() is not root:
            yield from divisible(piece[0], gamma)


def _leading(root: Dim) -> int:
    """How many parts the outer factors of a width make."""
    if not isinstance(root, Product):
        return 1
    *outer, inner = [factor for factor in root.factors() if factor.size != 1]
    count = 1
    for factor in outer if not inner.is_pinned() else ():
        if not factor.batched or factor.apart:
            count *= factor.size if factor.is_pinned() or isinstance(factor, Atom) else 1
    return count
