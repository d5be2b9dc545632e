"""What pack rules call: values of the packed graph that know on which axis their members are, and ways to bring values together."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from packify.capture.binding import Bound, rewritten
from packify.capture.outplace import Call
from packify.capture.signatures import Signature
from packify.core import nested
from packify.core.report import Note
from packify.nn.members import FRONT, Method, PerMember, cat_members, merge_members, relayout, repeat_members, split_members
from packify.packing.moves import copies
from packify.packing.votes import Meeting, Place

# What a packed node knows of the call of the reference that it belongs to.
_PROVENANCE = ("op", "path", "source", "stack", "inplace")


@dataclass(frozen=True)
class PackedValue:
    """A tensor of the packed graph.

    Attributes:
        node: where it is computed.
        axis: the axis that carries the members as its outermost factor, `FRONT` for an axis of their own, None for a shared tensor.
        val: one member's meta tensor.
    """

    node: fx.Node
    axis: int | None
    val: torch.Tensor

    @property
    def packed(self) -> bool:
        """It holds M members, rather than one value that all of them share."""
        return self.axis is not None

    @property
    def ndim(self) -> int:
        """The number of axes of one member's tensor."""
        return self.val.dim()

    @property
    def shape(self) -> tuple[int, ...]:
        """One member's shape."""
        return tuple(self.val.shape)


@dataclass
class PackBuilder:
    """The packed graph while it is built.

    Attributes:
        members: M.
        root: the packed network's module tree.
        relayouts, fallbacks: for the report.
        current, signature, traits: the member's node that is being packed, and what its operator's row says of it.
        shared: names of parameters and buffers that all members share.
        ungrouped, grouped: weights of convs that read a shared input as one ordinary conv, and of those that have M groups.
        wishes: the axis on which what a member's node computes is to have its members, where that can be chosen.
        meetings, demands: what the choice depends on, see `packify.packing.votes`.
        moved: elements of one member's tensors that are copied to have their members elsewhere.
    """

    members: int
    root: nn.Module
    graph: fx.Graph = field(default_factory=fx.Graph)
    relayouts: list[Note] = field(default_factory=list)
    fallbacks: list[Note] = field(default_factory=list)
    current: fx.Node | None = None
    signature: Signature | None = None
    traits: frozenset[str] = frozenset()
    env: dict[fx.Node, Any] = field(default_factory=dict)
    ungrouped: set[str] = field(default_factory=set)
    grouped: set[str] = field(default_factory=set)
    shared: Collection[str] = frozenset()
    wishes: Mapping[fx.Node, int] = field(default_factory=dict)
    meetings: list[Meeting] = field(default_factory=list)
    demands: list[Place] = field(default_factory=list)
    moved: int = 0

    # -- emitting ----------------------------------------------------------------------------------------------------

    def emit(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """A function call in the packed graph."""
        return self.stamp(self.graph.call_function(target, self.nodes(args), self.nodes(kwargs)))

    def method(self, name: str, *args: Any) -> fx.Node:
        """A call of a tensor's method in the packed graph."""
        return self.stamp(self.graph.call_method(name, self.nodes(args)))

    def again(self, node: fx.Node, args: Any, kwargs: Any) -> fx.Node:
        """The member's own call on other arguments; in place only in memory that is the members' own."""
        call = Call(node.op, node.target, tuple(args), dict(kwargs))
        written = bool(node.meta.get("inplace")) and not self.may_write(node, args)
        if written:
            call = node.meta["out_of_place"].call(args, kwargs)
        made = self.stamp(self.graph.create_node(call.op, call.target, self.nodes(call.args), self.nodes(call.kwargs)))
        made.meta["signature"] = None if written else node.meta.get("signature")
        return made

    def may_write(self, node: fx.Node, args: Any) -> bool:
        """Whether what the member writes to is new here as it is there: made for it, and with a share for every member if anything has."""
        target = self.env.get(node.args[0])  # type: ignore[arg-type]
        if not isinstance(target, PackedValue) or target.node.meta.get("member_node") is not node.args[0]:
            return False
        given = [self.env.get(source) for source in node.all_input_nodes]
        return target.packed or (args[0] is target and not any(tensor.packed for tensor in packed_values_in(given)))

    def values(self, node: fx.Node) -> Bound:
        """``args`` and ``kwargs`` of the member's call, packed."""
        args, kwargs = nested.map_leaves((node.args, node.kwargs), lambda leaf: self.env[leaf] if isinstance(leaf, fx.Node) else leaf)
        return args, kwargs

    def changed(self, node: fx.Node, /, **changes: Any) -> Bound:
        """``args`` and ``kwargs`` of the member's call, packed, with some arguments changed by their names in the operator's signature."""
        return rewritten(node, changes, self.signature, self.values(node))

    def call(self, node: fx.Node, axis: int | None, /, **changes: Any) -> Any:
        """The member's call, packed, with some arguments changed; the members are then on `axis`."""
        return self.native(node, *self.changed(node, **changes), axis)

    def stamp(self, node: fx.Node) -> fx.Node:
        """What a packed node knows of the member's node that it was emitted for."""
        if self.current is not None:
            node.meta.update({key: self.current.meta[key] for key in _PROVENANCE})
            node.meta["random"] = self.current.meta.get("random")
            node.meta["member_node"] = self.current
        return node

    def stamp_since(self, last: fx.Node | None) -> None:
        """Stamp what has come after `last` and has no stamp: what a user's rule has put into the graph itself."""
        for node in itertools.takewhile(lambda node: node is not last, reversed(self.graph.nodes)):
            if "stack" not in node.meta:
                self.stamp(node)

    def nodes(self, value: Any) -> Any:
        """Arguments with every `PackedValue` replaced by its node."""
        return map_packed_values(value, lambda tensor: tensor.node)

    def result(self, node: fx.Node, value: Any, axis: int | None) -> Any:
        """`node` as a `PackedValue`, or as a tuple of them, all with the same layout."""
        if isinstance(value, torch.Tensor):
            node.meta.update(val=value, axis=axis)
            return PackedValue(node, axis, value)
        if isinstance(value, (tuple, list)):
            return tuple(
                self.result(self.stamp(self.graph.call_function(operator.getitem, (node, index))), item, axis)
                for index, item in enumerate(value)
            )
        return node

    def native(self, node: fx.Node, args: Any, kwargs: Any, axis: int | None) -> Any:
        """The member's call as it is, on packed tensors."""
        return self.result(self.again(node, args, kwargs), node.meta["val"], axis)

    # -- layouts -----------------------------------------------------------------------------------------------------

    def to(self, tensor: PackedValue, axis: int) -> PackedValue:
        """The members on another axis; a shared tensor once per member."""
        if tensor.packed and not (self.meetings and self.meetings[-1].node is self.current):
            self.demands.append(Place(member_node(tensor), axis, tensor.val.numel()))
        if tensor.axis == axis:
            return tensor
        if tensor.axis is None:
            return self._made(self.emit(repeat_members, tensor, axis, self.members), axis, tensor.val)
        if copies(tensor.shape, tensor.axis, axis):
            self.moved += tensor.val.numel() if tensor.axis != FRONT else 0  # no choice of axes avoids the way from there
            self._note(
                self.relayouts,
                f"members from {'an axis of their own' if tensor.axis == FRONT else f'axis {tensor.axis}'} to {axis}",
                f"{self.current.meta['op']} reads them there" if self.current else "",
            )
        return self._made(self.emit(relayout, tensor, tensor.axis, axis, self.members), axis, tensor.val)

    def meet(self, operands: list[PackedValue], value: torch.Tensor) -> int | None:
        """Tell that operands and result of the current call have their members on one axis; the axis that is wished for, if any is."""
        if self.current is None:
            return None
        whole = [one for one in operands if one.axis is not None and one.axis != FRONT and one.ndim == value.dim()]
        full = [one for one in whole if one.val.shape == value.shape]  # what is broadcast is read where it lies
        self.meetings.append(Meeting(self.current, [Place(member_node(one), int(one.axis or 0), one.val.numel()) for one in full]))
        wish = self.wishes.get(self.current)
        return wish if wish is not None and any(one.shape[wish] == value.shape[wish] for one in whole) else None

    def choose(self, axis: int) -> int:
        """Tell that the current call can have its result's members on several axes; the one that is wished for, or else `axis`."""
        if self.current is None:
            return axis
        self.meetings.append(Meeting(self.current, []))
        return self.wishes.get(self.current, axis)

    def front(self, tensor: PackedValue, ndim: int | None = None) -> fx.Node:
        """``"m ..."`` as a node, padded with axes of size 1 after ``m`` to `ndim` member axes. A shared tensor stays as it is."""
        if tensor.axis is None:
            return tensor.node
        node = tensor.node
        if tensor.axis != FRONT:
            node = self._made(self.emit(split_members, tensor, tensor.axis, self.members), FRONT, tensor.val).node
        for _ in range(0 if ndim is None else ndim - tensor.ndim):
            node = self.emit(torch.unsqueeze, node, 1)
        return node

    def back(self, node: fx.Node, value: Any, axis: int = 0) -> Any:
        """``"m ..."`` folded into an axis, by default the batch; tensors without axes keep one of their own."""
        if isinstance(value, torch.Tensor):
            return self._made(self.emit(merge_members, node, axis), axis, value) if value.dim() else self._made(node, FRONT, value)
        if isinstance(value, (tuple, list)):
            return tuple(self.back(self.emit(operator.getitem, node, index), item, axis) for index, item in enumerate(value))
        return node

    def times(self, count: Any) -> Any:
        """A number of the graph, once per member."""
        return count * self.members if isinstance(count, int) else self.emit(operator.mul, count, self.members)

    def cat(self, operands: list[PackedValue], axis: int) -> fx.Node:
        """The concatenation along the axis that carries the members, member by member."""
        return self.emit(cat_members, [tensor.node for tensor in operands], axis, self.members)

    def _made(self, node: fx.Node, axis: int, value: torch.Tensor) -> PackedValue:
        node.meta.update(val=value, axis=axis)
        return PackedValue(node, axis, value)

    # -- member by member --------------------------------------------------------------------------------------------

    def fallback(self, node: fx.Node, args: Any = None, kwargs: Any = None, why: str = "it has no rule for this layout") -> Any:
        """Run an operator or a module once per member, on views, by default on its own arguments. Always right."""
        if args is None:
            args, kwargs = self.values(node)
        shared = node.op == "call_module" and self.is_shared(node)
        if shared and not (node.meta.get("random") or any(tensor.packed for tensor in packed_values_in((args, kwargs)))):
            return self.native(node, args, kwargs, None)
        call = Call(node.op, node.target, tuple(args), dict(kwargs or {}))
        if node.meta.get("inplace"):
            call = node.meta["out_of_place"].call(args, kwargs)
        args, kwargs = call.args, call.kwargs
        marks = tuple(tensor.packed for tensor in packed_values_in((args, kwargs)))
        front_args, front_kwargs = map_packed_values((args, kwargs), self.front)
        self._note(self.fallbacks, f"{node.meta['op']} runs once per member", why)
        if node.op == "call_module":
            module = self.graph.get_attr(str(node.target))
            made = self.emit(PerMember(None, self.members, marks, shared), module, *front_args, **front_kwargs)
        else:
            function: Any = Method(str(call.target)) if call.op == "call_method" else call.target
            made = self.emit(PerMember(function, self.members, marks), *front_args, **front_kwargs)
            made.meta["signature"] = None if node.meta.get("inplace") else node.meta.get("signature")
        if isinstance(node.meta["val"], torch.Tensor):
            made.meta.update(val=node.meta["val"], axis=FRONT)
        return self.back(made, node.meta["val"])

    def is_shared(self, node: fx.Node) -> bool:
        """All tensors of the module that a node calls are shared by the members."""
        module = self.root.get_submodule(str(node.target))
        names = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
        return bool(self.shared) and all(f"{node.target}.{name}" in self.shared for name in names)

    def _note(self, notes: list[Note], what: str, why: str) -> None:
        node = self.current
        if node is not None:
            notes.append(Note(node.meta["path"] or node.name, node.meta["source"], what, why))


def member_node(tensor: PackedValue) -> fx.Node:
    """The member's node whose value a packed tensor is."""
    node: fx.Node = tensor.node.meta.get("member_node", tensor.node)
    return node


def packed_values_in(value: Any) -> list[PackedValue]:
    """Every `PackedValue` in nested arguments, in order."""
    return [leaf for leaf in nested.leaves(value) if isinstance(leaf, PackedValue)]


def map_packed_values(value: Any, change: Callable[[PackedValue], Any]) -> Any:
    """Nested arguments with every `PackedValue` replaced."""
    return nested.map_leaves(value, lambda leaf: change(leaf) if isinstance(leaf, PackedValue) else leaf)
