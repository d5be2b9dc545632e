"""Heads of attention: of the two factors of a width, heads x size of a head, the one that products treat as a batch scales first.

A member of a large network is then its family's next size: half as many heads of the same size, not as many heads of half the size.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from packify.core.report import Note
from packify.widths.assignment import Pins, Sizes
from packify.widths.dims import Atom, Dim, Product


@dataclass(frozen=True)
class Split:
    """A width that is heads times something.

    Attributes:
        width: the product.
        heads: the factors that are batch axes of products of two activations.
        rest: the atoms of the other factors that may change.
    """

    width: Product
    heads: tuple[Atom, ...]
    rest: tuple[Atom, ...]

    def size_of_one(self, sizes: Callable[[Dim], int]) -> int:
        """Elements that belong to one head, what is fixed (the 3 of q, k and v) left out."""
        atoms = set(self.rest)
        return math.prod(sizes(factor) for factor in self.width.factors() if not atoms.isdisjoint(factor.atoms()))


@dataclass
class Attention:
    """Splits that decide together, since some of their factors are equal: one stage of a network, or all of it.

    Attributes:
        splits: the widths.
        scaled: the head counts that scale; none where the size of a head does.
        kept: why the size of a head scales instead.
    """

    splits: list[Split]
    scaled: tuple[Atom, ...] = ()
    kept: str = ""

    @property
    def heads(self) -> list[Atom]:
        """Every head count."""
        return list(dict.fromkeys(atom for split in self.splits for atom in split.heads))

    @property
    def rest(self) -> list[Atom]:
        """What the sizes of heads are made of."""
        return list(dict.fromkeys(atom for split in self.splits for atom in split.rest))


@dataclass
class Heads:
    """What one configuration does with heads."""

    attentions: list[Attention] = field(default_factory=list)

    @property
    def scaled(self) -> frozenset[Atom]:
        """The head counts that scale."""
        return frozenset(atom for attention in self.attentions for atom in attention.scaled)


def splits_of(roots: Sequence[Dim]) -> list[Split]:
    """Every width of a recording that is made of heads, outermost factor first."""
    marked = {root for root in roots if isinstance(root, Atom) and root.batched}
    for root in roots:
        if root.batched and isinstance(root, Product):  # a batch axis that heads are merged into, or query heads: key heads x their ratio
            moving = [factor for factor in root.factors() if not factor.is_pinned()]
            marked |= {factor for factor in moving if len(moving) == 1 and isinstance(factor, Atom)}
            for factor in moving if len(moving) == 1 else ():
                factor.batched += [name for name in root.batched if name not in factor.batched]
    found = []
    for root in roots:
        if isinstance(root, Product):
            moving = [factor for factor in root.factors() if not factor.is_pinned()]
            heads = tuple(factor for factor in moving if isinstance(factor, Atom) and factor in marked)
            rest = tuple(dict.fromkeys(atom for factor in moving if factor not in heads for atom in factor.atoms() if not atom.is_pinned()))
            if heads and rest:
                found.append(Split(root, heads, rest))
    return found


def choose_heads(
    splits: Sequence[Split], roots: Sequence[Dim], ratio: Fraction, round_to: int, pins: Pins, kept: Mapping[Atom, str], policy: str
) -> Heads:
    """Which head counts scale.

    Args:
        splits: of the recording.
        roots: every size.
        pins: what keeps its size in this configuration.
        kept: head counts that may not scale, with the reason.
        policy: ``"scale"``, or ``"keep"``: the size of a head scales everywhere.
    """
    free = [_free(split, pins) for split in splits]
    found = Heads(_attentions([split for split in free if split.heads and split.rest]))
    for attention in found.attentions:
        if policy == "keep":
            attention.kept = 'heads="keep"'
        else:
            _choose(attention, ratio, round_to, kept)
    while exposed := _exposed(roots, found):
        for attention in found.attentions:
            if attention.scaled and (layers := [layer for atom in attention.rest for layer in exposed.get(atom, ())]):
                attention.scaled, attention.kept = (), f"the size of a head is a width of {layers[0]} by itself"
    return found


def _free(split: Split, pins: Pins) -> Split:
    heads, rest = (tuple(atom for atom in atoms if pins.reason(atom) is None) for atoms in (split.heads, split.rest))
    return Split(split.width, heads, rest)


def _attentions(splits: Sequence[Split]) -> list[Attention]:
    """Splits by what they have in common, each with all that are joined to it by a head count or a part of its size."""
    first: dict[Atom, int] = {}
    same = list(range(len(splits)))

    def leader(index: int) -> int:
        while same[index] != index:
            same[index] = same[same[index]]
            index = same[index]
        return index

    for index, split in enumerate(splits):
        for atom in (*split.heads, *split.rest):
            same[leader(index)] = leader(first.setdefault(atom, index))
    joined: dict[int, list[Split]] = defaultdict(list)
    for index, split in enumerate(splits):
        joined[leader(index)].append(split)
    return [Attention(group) for group in joined.values()]


def _choose(attention: Attention, ratio: Fraction, round_to: int, kept: Mapping[Atom, str]) -> None:
    """One head count of each width, the same one wherever it is met, if all of them come out whole."""
    chosen: list[Atom] = []
    for split in sorted(attention.splits, key=lambda split: len(split.heads)):
        mine = [atom for atom in split.heads if atom in chosen]
        if mine:
            continue
        whole = [atom for atom in split.heads if (atom.size * ratio).denominator == 1 and atom not in kept]
        width = split.width.size * ratio
        if not whole or (split.width.size >= round_to and width.denominator == 1 and width % round_to):
            attention.kept = _why_kept(split, ratio, round_to, kept)
            return
        chosen.append(whole[0])
    if any(sum(atom in chosen for atom in split.heads) > 1 for split in attention.splits):
        attention.kept = "its head counts are factors of one width"
    else:
        attention.scaled = tuple(chosen)


def _why_kept(split: Split, ratio: Fraction, round_to: int, kept: Mapping[Atom, str]) -> str:
    reason = next((kept[atom] for atom in split.heads if atom in kept), None)
    if reason is not None:
        return reason
    uneven = next((atom.size for atom in split.heads if (atom.size * ratio).denominator > 1), None)
    if uneven is not None:
        return f"{uneven} x {ratio} is not whole"
    return f"{split.width.size} x {ratio} is no multiple of {round_to}"


def _exposed(roots: Sequence[Dim], heads: Heads) -> dict[Atom, list[str]]:
    """Sizes of scaled heads that are asked to scale by a width that has no head count among its factors, and by which layers."""
    scaled = heads.scaled
    sizes = {atom for attention in heads.attentions if attention.scaled for atom in attention.rest}
    found: dict[Atom, list[str]] = defaultdict(list)
    for root in roots:
        if root.demands:
            for atom in _unscaled(root, scaled):
                if atom in sizes:
                    found[atom] += root.demands
    return found


def _unscaled(root: Dim, scaled: Collection[Dim]) -> Iterator[Atom]:
    """The atoms of a width that are in no product with a scaled head count."""
    waiting, seen = [root], {root}
    while waiting:
        dim = waiting.pop()
        if isinstance(dim, Atom):
            yield dim
        parts = dim.factors() if isinstance(dim, Product) else [part.root() for part in dim.parts]
        if not (isinstance(dim, Product) and any(part in scaled for part in parts)):
            waiting += [part for part in parts if part not in seen]
            seen.update(parts)


def head_notes(heads: Heads, roots: Sequence[Dim], ratio: Fraction, sizes: Sizes) -> list[Note]:
    """What was done with the heads of every attention; stages that were treated alike share a note."""
    told: dict[tuple[str, str], list[str]] = defaultdict(list)
    for attention in heads.attentions if ratio != 1 else ():
        for atom in attention.scaled or attention.heads:
            split = next(split for split in attention.splits if atom in split.heads)
            before, after = (split.size_of_one(size) for size in (lambda dim: dim.size, sizes.of))
            if attention.scaled:
                told[f"{atom.size} heads of {before} -> {sizes.of(atom)} of {after}", f"{atom.size} x {ratio} is whole"] += atom.batched
            else:
                told[f"{atom.size} heads of {before} -> {sizes.of(atom)} of {after}", attention.kept] += atom.batched
    for atom, rest in _pinned(roots).items() if ratio != 1 else ():
        before, after = (math.prod(map(size, rest)) for size in (lambda dim: dim.size, sizes.of))
        why = f"{atom.pin.why} at {atom.pin.node}" if atom.pin is not None else ""
        told[f"{atom.size} heads of {before} -> {atom.size} of {after}", why] += atom.batched
    return [Note(_names(names), "", what, why) for (what, why), names in told.items()]


def _pinned(roots: Sequence[Dim]) -> dict[Atom, list[Dim]]:
    """Head counts that the recording pins, and the factors beside them that may change in a layer's width."""
    found: dict[Atom, list[Dim]] = {}
    for root in roots:
        rest = [factor for factor in root.factors() if not factor.is_pinned()] if isinstance(root, Product) and root.demands else []
        for atom in root.factors() if rest else ():
            if isinstance(atom, Atom) and atom.batched and atom.pin is not None and atom.size > 1:
                found.setdefault(atom, rest)
    return found


def _names(names: Sequence[str]) -> str:
    known = list(dict.fromkeys(names))
    return ", ".join(known) if len(known) <= _NAMED else f"{known[0]} and {len(known) - 1} more"


_NAMED = 3
