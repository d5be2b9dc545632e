"""Numbers in a graph that code computed from a width: a head's ``d ** -0.5``, a standardised weight's ``gain * fan_in ** -0.5``.

A Python float that multiplies a weight, queries, keys or scores, or is passed as ``scale=``, and equals ``g * n ** e`` for a size n that
it meets there, follows n into the member. All numbers that one line of code gives are judged together (`packify.core.powers`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import fx

from packify.core.powers import PowerLaw, power_laws
from packify.core.report import Note
from packify.widths.assignment import Sizes
from packify.widths.meetings import Meeting, meeting_of, weight_makers

if TYPE_CHECKING:
    from packify.widths.analysis import WidthAnalysis

# Of a size n: queries and keys each take n ** -0.25, or one of them or their product n ** -0.5; embeddings n ** 0.5; a mean n ** -1.
_EXPONENTS = (-0.5, -0.25, 0.5, -1.0)


@dataclass(frozen=True)
class Number:
    """A float among a node's arguments.

    Attributes:
        node: the reference's.
        place: its position among the arguments, or its keyword.
        value: the float.
        computed: the graph computes it, from sizes whose meaning may be another in a member: of 3 heads of 32 a code that was recorded
            with 4 heads makes 96 // 4.
        factor: what it multiplies by; the inverse of `value` where the node divides.
        meeting: the sizes that it meets.
        law: the power of a size that it is; None if it is none.
    """

    node: fx.Node
    place: int | str
    value: float
    factor: float
    meeting: Meeting
    computed: bool = False
    law: PowerLaw | None = None

    @property
    def name(self) -> str:
        """The module that multiplies, or the node."""
        return str(self.node.meta["path"] or self.node.name)


@dataclass
class Followed:
    """The numbers of one member.

    Attributes:
        values: by node and place.
        notes: what follows which width, and what was kept.
    """

    values: dict[tuple[fx.Node, int | str], float] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def numbers_of(analysis: WidthAnalysis) -> list[Number]:
    """Every number of the reference's graphs that may have been computed from a width, with its law if there is one."""
    found: dict[tuple[str, str, Any, str], list[Number]] = defaultdict(list)
    for propagation in analysis.propagations.values():
        makers = weight_makers(propagation.graph, analysis.layers)
        for node in propagation.graph.nodes:
            for place, value, factor, computed in _floats(node):
                meeting = meeting_of(node, propagation.dims, makers)
                if meeting is not None:
                    number = Number(node, place, value, factor, meeting, computed)
                    found[node.meta["source"], node.meta["op"], place, meeting.kind].append(number)
    return [number for alike in found.values() for number in _with_laws(alike)]


def _with_laws(alike: list[Number]) -> Iterator[Number]:
    sizes = [{role: float(size) for role, size in number.meeting.reference_sizes().items()} for number in alike]
    gains = (1.0,) if alike[0].meeting.alone_will_do else ()
    laws = power_laws([number.factor for number in alike], sizes, _EXPONENTS, gains)
    for number, law in zip(alike, laws, strict=True):
        yield replace(number, law=law)


def _floats(node: fx.Node) -> Iterator[tuple[int | str, float, float, bool]]:
    """The floats that multiply: their place, their value, what they multiply by, and whether the graph computes them."""
    operator = node.meta.get("op")
    if operator in ("mul", "div") and len(node.args) > 1:
        for place, other in ((1, 0), (0, 1)):
            value, computed = _known(node.args[place])
            if value and isinstance(node.args[other], fx.Node) and (operator, place) != ("div", 0):
                yield place, value, 1 / value if operator == "div" else value, computed
    for keyword in ("scale", "alpha") if operator in _SCALED else ():
        value, computed = _known(node.kwargs.get(keyword))
        if value:
            yield keyword, value, value, computed


def _known(argument: Any) -> tuple[float, bool]:
    """A float among arguments, and whether the graph computes it; 0 where it is none."""
    computed = isinstance(argument, fx.Node)
    value = argument.meta["val"] if computed else argument
    return (value, computed) if isinstance(value, float) else (0.0, computed)


_SCALED = frozenset("scaled_dot_product_attention baddbmm addmm addbmm".split())


def follow(
    numbers: list[Number], sizes: Sizes, gamma_of: Callable[[fx.Node], int], choice: Any, nodes: Mapping[fx.Node, fx.Node]
) -> Followed:
    """The numbers at a member's sizes.

    Args:
        numbers: of the reference.
        sizes: the member's.
        gamma_of: a layer's gamma.
        choice: ``"follow"``, ``"keep"``, or by the name of a node or module one of these words or the number itself.
        nodes: the member's by the reference's.
    """
    found = Followed()
    for number in numbers:
        wanted = _wanted(number, choice)
        if isinstance(wanted, float):
            found.values[number.node, number.place] = wanted
            found.notes.append(_note(number, f"{number.value:.6g} -> {wanted:.6g}", "constants= says so"))
        elif wanted != "keep" and number.law is not None:
            _follow_law(number, number.law, _in_member(number, nodes), sizes, gamma_of, found)
        elif not number.computed and (wanted != "keep" or number.law is not None):
            why = "it is no power of a width that it meets" if number.law is None else f"constants= says so, though it is {number.law}"
            found.notes.append(_note(number, f"{number.value:.6g} is kept", why))
    found.notes = list(dict.fromkeys([*found.notes, *_without_effect(numbers, choice)]))
    return found


def _without_effect(numbers: list[Number], choice: Any) -> Iterator[Note]:
    """What a choice by name names, where there is nothing to choose."""
    known = {name for number in numbers for name in (number.node.name, number.node.meta["path"])}
    for name, wanted in () if isinstance(choice, str) else choice:
        if name not in known:
            yield Note(name, "", f"constants= {wanted!r} has no effect", "no number that meets a width is at a node or module of this name")


def _in_member(number: Number, nodes: Mapping[fx.Node, fx.Node]) -> float:
    """What the member has there as long as nothing follows: the reference's, or what the graph computes from the member's sizes."""
    if not number.computed:
        return number.value
    node = nodes[number.node]
    return _known(node.args[number.place] if isinstance(number.place, int) else node.kwargs[number.place])[0]


def _follow_law(number: Number, law: PowerLaw, given: float, sizes: Sizes, gamma_of: Callable[[fx.Node], int], found: Followed) -> None:
    before = number.meeting.reference_sizes()[law.role]
    after = number.meeting.member_sizes(sizes, gamma_of)[law.role]
    factor = (after / before) ** law.exponent
    value = number.value / factor if number.node.meta["op"] == "div" else number.value * factor
    if after == before if not number.computed else math.isclose(given, value, rel_tol=1e-9):
        return
    found.values[number.node, number.place] = value
    found.notes.append(_note(number, f"{given:.6g} -> {value:.6g}", f"it is {law}, and that is {before:g} -> {after:g}"))


def _wanted(number: Number, choice: Any) -> str | float:
    if isinstance(choice, str):
        return choice
    by_name: dict[str, Any] = dict(choice)
    wanted = by_name.get(number.node.name, by_name.get(number.node.meta["path"], "follow"))
    return wanted if isinstance(wanted, str) else float(wanted)


def _note(number: Number, what: str, why: str) -> Note:
    return Note(number.name, number.node.meta["source"], what, why)


def substitute(nodes: Mapping[fx.Node, fx.Node], values: Mapping[tuple[fx.Node, int | str], float]) -> None:
    """Write the member's numbers into its graph, whose nodes are given by the reference's."""
    for (node, place), value in values.items():
        new = nodes[node]
        if isinstance(place, int):
            new.args = (*new.args[:place], value, *new.args[place + 1 :])
        else:
            new.kwargs = {**new.kwargs, place: value}
