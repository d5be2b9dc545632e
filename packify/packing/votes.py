"""On which axis values carry their members: settled by all who make and read them, not by whichever operand comes first.

A residual stream is what a chain of additions computes, and all of its values have their members on one axis. Of a transformer's stream,
the first operand is the output of a conv, ``"b n (m c)"``, and all others are those of linear layers, ``"(m b) n c"``: the stream is too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import fx


@dataclass(frozen=True)
class Place:
    """Where the members of a value are, or where a reader wants them.

    Attributes:
        node: of the member's graph, whose value it is.
        axis: which carries the members.
        numel: elements of one member's tensor.
    """

    node: fx.Node
    axis: int
    numel: int


@dataclass(frozen=True)
class Meeting:
    """A call whose operands and result have their members on one axis: a sum, a concatenation, an activation.

    Attributes:
        node: of the member's graph.
        operands: those that have as many axes as the result; none of a call whose result has its members wherever that is wished.
    """

    node: fx.Node
    operands: Sequence[Place]


@dataclass
class _Stream:
    """Values that have their members on one axis.

    Attributes:
        nodes: the calls that compute them.
        places: where those outside make and read them, by what makes or reads them.
    """

    nodes: list[fx.Node] = field(default_factory=list)
    places: dict[object, Place] = field(default_factory=dict)

    def best(self) -> int | None:
        """The axis for which the fewest elements are moved; None where several are as good, and the operands may decide as they come."""
        moved: dict[int, int] = {}
        for axis in {place.axis for place in self.places.values()}:
            moved[axis] = sum(place.numel for place in self.places.values() if place.axis != axis)
        best = [axis for axis in moved if moved[axis] == min(moved.values())]
        return best[0] if len(best) == 1 else None


def chosen_axes(meetings: Iterable[Meeting], demands: Iterable[Place]) -> dict[fx.Node, int]:
    """The axis that the result of every meeting is to have its members on.

    Args:
        meetings: of one packing pass.
        demands: where other calls wanted the members of what they read.
    """
    meetings = list(meetings)
    groups = _Groups()
    for meeting in meetings:
        for operand in meeting.operands:
            groups.join(meeting.node, operand.node)
    streams: dict[fx.Node, _Stream] = {}
    inside = {meeting.node for meeting in meetings}
    for meeting in meetings:
        stream = streams.setdefault(groups.first(meeting.node), _Stream())
        stream.nodes.append(meeting.node)
        stream.places.update({operand.node: operand for operand in meeting.operands if operand.node not in inside})
    for number, demand in enumerate(demands):
        if groups.first(demand.node) in streams:
            streams[groups.first(demand.node)].places[number] = demand
    return {node: axis for stream in streams.values() if (axis := stream.best()) is not None for node in stream.nodes}


class _Groups:
    """Nodes that belong together, each group by one of its nodes."""

    def __init__(self) -> None:
        self._above: dict[fx.Node, fx.Node] = {}

    def first(self, node: fx.Node) -> fx.Node:
        while node in self._above:
            node = self._above[node]
        return node

    def join(self, one: fx.Node, other: fx.Node) -> None:
        one, other = self.first(one), self.first(other)
        if one is not other:
            self._above[one] = other
