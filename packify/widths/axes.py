"""The axes of a reference's tensors as a configuration has sized them: a frozen copy of their `Dim`, for who cuts tensors to a member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packify.widths.assignment import Sizes
from packify.widths.dims import Atom, Dim, Product, Quotient, Sum, parts_first


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis. Axes that share a width are, or are made of, the same object.

    Attributes:
        size, member: elements in the reference and in a member.
        kind: ``""`` for an atom, ``"*"`` for a product (outermost factor first), ``"+"`` for a sum (in order), ``"/"`` for the first of
            `divisor` equal shares.
        parts: what it is made of.
        divisor: of a share.
        blocks: an atom is made of so many equal blocks, as the groups of a GroupNorm; a member has as many.
    """

    size: int
    member: int
    kind: str = ""
    parts: tuple[Axis, ...] = ()
    divisor: int = 1
    blocks: int = 1


def axes_of(dims: Mapping[str, Sequence[Dim]], sizes: Sizes) -> dict[str, tuple[Axis, ...]]:
    """The axes of every parameter, buffer and constant by name, at one configuration's sizes."""
    known: dict[Dim, Axis] = {}

    def axis(dim: Dim) -> Axis:
        for root in parts_first(dim, skip=known.__contains__):
            parts = tuple(known[part.root()] for part in root.parts)
            divisor = root.divisor if isinstance(root, Quotient) else 1
            blocks = sizes.steps[root].count if isinstance(root, Atom) and root in sizes.steps else 1
            known[root] = Axis(root.size, sizes.of(root), _KINDS[type(root)], parts, divisor, blocks)
        return known[dim.root()]

    return {name: tuple(map(axis, own)) for name, own in dims.items()}


_KINDS: Mapping[type[Dim], str] = {Atom: "", Product: "*", Sum: "+", Quotient: "/"}
