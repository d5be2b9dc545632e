"""The calls of modules as a tree over a flat graph: which nodes and which calls each call consists of, in order."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from packify.capture.calls import ModuleCall, refs
from packify.capture.views import storage_of
from packify.core import nested
from packify.nn.members import PerMember
from packify.nn.writes import store

Stack = tuple[tuple[str, int], ...]


@dataclass(eq=False)
class Frame:
    """One call of a module, or the run of the network itself.

    Attributes:
        path: the module's dotted name.
        parent: the call that it was made in; None for the network.
        call: its arguments and what it returned.
        items: its own nodes and the calls it makes, in order.
        whole: it is one call of the module's own code, in a node of the flat graph.
        needs, gives: values that go in besides the arguments, and out besides the result; see `packify.packing.ports`.
        form: which of the module's forms it runs.
    """

    path: str
    parent: Frame | None
    call: ModuleCall | None
    items: list[fx.Node | Frame] = field(default_factory=list)
    whole: bool = False
    needs: dict[fx.Node, None] = field(default_factory=dict)
    gives: dict[fx.Node, None] = field(default_factory=dict)
    form: int = 0

    def frames(self) -> Iterator[Frame]:
        """The calls inside, each after those that it makes, and this one last."""
        for item in self.items:
            if isinstance(item, Frame):
                yield from item.frames()
        yield self

    def within(self, other: Frame) -> bool:
        """It is `other`, or was called in it."""
        frame: Frame | None = self
        while frame is not None and frame is not other:
            frame = frame.parent
        return frame is other

    def up_to(self, other: Frame) -> Iterator[Frame]:
        """This call and those that it was made in, as far as `other`, which is left out."""
        frame: Frame | None = self
        while frame is not None and frame is not other:
            yield frame
            frame = frame.parent


class Frames:
    """A flat graph cut into calls.

    Attributes:
        root: the run of the network.
        home: the call in which a value is computed. What every call can compute again for itself has none: attributes, sizes.
        dissolved: modules that are no block where code calls them that they are no part of.
        values: nodes of the graph by the names of the recorded nodes whose value they have.
    """

    def __init__(self, graph: fx.Graph, calls: Sequence[ModuleCall], reaches: Callable[[str, str], bool]) -> None:
        self.graph = graph
        self.values = {name: node for node in graph.nodes for name in node.meta.get("recorded", ())}
        self.root = Frame("", None, None)
        self.home: dict[fx.Node, Frame] = {}
        self.dissolved: list[str] = []
        self._places: dict[fx.Node | Frame, tuple[float, int]] = {}
        frames = self._entered(calls)
        self._settle(frames)
        self._move_stores()
        self._fill(list(frames.values())[1:])
        self._dissolve(reaches)

    def _entered(self, calls: Sequence[ModuleCall]) -> dict[Stack, Frame]:
        """A frame for every call, by the stack of calls that it ends."""
        frames: dict[Stack, Frame] = {(): self.root}
        behind = _Behind(self.graph)
        for number, call in enumerate(calls, 1):
            frame = frames[call.stack] = Frame(call.path, frames.get(call.stack[:-1], self.root), call)
            self._places[frame] = (behind.node(call.after), number)
        return frames

    def _settle(self, frames: Mapping[Stack, Frame]) -> None:
        """Every node to the call that it was emitted in; around a module's own code, to the call that calls the module."""
        for node in self.graph.nodes:
            frame = _innermost(frames, node.meta.get("stack", ()))
            frame.whole = frame.whole or _calls_own_code(node, frame)
        for index, node in enumerate(self.graph.nodes):
            self._places[node] = (index, 0)
            if node.op == "placeholder":
                self.home[node] = self.root
            elif node.op != "output" and not is_repeatable(node):
                frame = _innermost(frames, node.meta.get("stack", ()))
                outside = frame.whole and frame.parent is not None and not _calls_own_code(node, frame)
                self.home[node] = frame.parent if outside and frame.parent is not None else frame

    def _move_stores(self) -> None:
        """A buffer is written at the end of the call that computes its value, if nobody reads it as it was after that."""
        stores = self.graph.find_nodes(op="call_function", target=store)
        if not stores:
            return
        ends, readers = self._ends(), _ReadersOfMemory(self.graph)
        for node in stores:
            held, value = node.args
            frame = self.home.get(value) if isinstance(value, fx.Node) else None
            if frame is None or not isinstance(held, fx.Node):
                continue
            end = ends[frame]
            if all(self._places[reader][0] <= end for reader in readers.of(held) if reader is not node):
                self.home[node] = frame
                self._places[node] = (end + 0.25, 0)

    def _ends(self) -> dict[Frame, float]:
        """The place of the last node of every call, or of the calls inside it."""
        ends: dict[Frame, float] = {}
        for node, home in self.home.items():
            for frame in (*home.up_to(self.root), self.root):
                ends[frame] = max(ends.get(frame, 0.0), self._places[node][0])
        return ends

    def _fill(self, frames: Sequence[Frame]) -> None:
        """Give every call its nodes and calls in order. A call without nodes stays where it passes on what there is by then."""
        for node, frame in self.home.items():
            if node.op != "placeholder":
                frame.items.append(node)
        for frame in reversed(frames):  # those inside come after
            if frame.items:
                frame.items.sort(key=self._places.__getitem__)
                self._places[frame] = (self._places[frame.items[0]][0], self._places[frame][1])
            elif not self._passes_on(frame):
                continue
            if frame.parent is not None:
                frame.parent.items.append(frame)
        self.root.items.sort(key=self._places.__getitem__)

    def _dissolve(self, reaches: Callable[[str, str], bool]) -> None:
        """Code may call a module that is no part of its own, by a list or a closure: that is then no block there, and what it computes is
        its caller's. A module kept whole cannot be taken apart: there the caller is no block, and what it does is its own caller's.
        """
        while (unreached := self._unreached(reaches)) is not None:
            outer: Any = unreached.parent
            gone, outer = (outer, outer.parent) if unreached.whole else (unreached, outer)
            position = outer.items.index(gone)
            outer.items[position : position + 1] = gone.items
            for item in gone.items:
                if isinstance(item, Frame):
                    item.parent = outer
                else:
                    self.home[item] = outer
            self.dissolved.append(gone.path)

    def _unreached(self, reaches: Callable[[str, str], bool]) -> Frame | None:
        """A call of a module that is no part of the one that calls it."""
        for frame in self.root.frames():
            if frame.parent is not None and not reaches(frame.parent.path, frame.path):
                return frame
        return None

    def _passes_on(self, frame: Frame) -> bool:
        """It returns values that were there before it."""
        names = [ref.name for ref in refs(frame.call.result)] if frame.call is not None else []
        before = self._places[frame][0]
        return bool(names) and all(name in self.values and self._places[self.values[name]][0] < before for name in names)


def _innermost(frames: Mapping[Stack, Frame], stack: Stack) -> Frame:
    while stack not in frames:
        stack = stack[:-1]
    return frames[stack]


class _Behind:
    """Where in a graph a call of a module starts, by the name of the recorded node before it."""

    def __init__(self, graph: fx.Graph) -> None:
        origins = [node.meta.get("member_node", node) for node in graph.nodes]
        recorded = {node: index for index, node in enumerate(origins[0].graph.nodes)}
        self._recorded = {name: index for node, index in recorded.items() for name in node.meta.get("recorded", ())}
        self._origins = list(itertools.accumulate((recorded.get(node, 0) for node in origins), max))

    def node(self, name: str) -> float:
        """Half a place behind the last node that comes from `name` or from what was recorded before."""
        return bisect.bisect_right(self._origins, self._recorded.get(name, -1)) - 0.5


def is_repeatable(node: fx.Node) -> bool:
    """Whether every call may compute a value for itself: an attribute, what is made of one where it is read, a number."""
    return reads_attribute(node) or is_number(node)


def reads_attribute(node: fx.Node) -> bool:
    """A parameter, buffer or constant, or what packing makes of it for all its readers."""
    origin = node.meta.get("member_node", node)
    return node.op == "get_attr" or (origin.op == "get_attr" and node.op.startswith("call") and node.target is not store)


def is_number(node: fx.Node) -> bool:
    """A size, a dtype, a device, or what is computed from such."""
    value = node.meta.get("member_node", node).meta.get("val")
    kinds = (bool, int, float, complex, torch.dtype, torch.device, torch.layout)
    return node.op in ("call_function", "call_method") and isinstance(value, kinds)


def _calls_own_code(node: fx.Node, frame: Frame) -> bool:
    """The node is the call of a module that is kept whole, once or once per member."""
    if node.op == "call_module":
        return node.target == frame.path
    return isinstance(node.target, PerMember) and node.target.function is None and own_module(node) == frame.path


def own_module(node: fx.Node) -> str:
    """The dotted name of the module that runs once per member."""
    module = node.args[0]
    return str(module.target) if isinstance(module, fx.Node) else ""


class _ReadersOfMemory:
    """Everything that reads a buffer or a view of it."""

    def __init__(self, graph: fx.Graph) -> None:
        self._nodes: dict[int, dict[fx.Node, None]] = {}
        for node in graph.nodes:
            for storage in _memory_of(node):
                self._nodes.setdefault(storage, {})[node] = None

    def of(self, held: fx.Node) -> set[fx.Node]:
        views = [held, *(node for storage in _memory_of(held) for node in self._nodes[storage])]
        return {user for view in views for user in view.users}


def _memory_of(node: fx.Node) -> set[int]:
    value = node.meta.get("member_node", node).meta.get("val")
    return {storage_of(leaf) for leaf in nested.leaves(value) if isinstance(leaf, torch.Tensor)}
