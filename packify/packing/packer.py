"""Pack: M same-shaped members in one graph. Every node of the member's graph is emitted once, in a layout in which it is right."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import fx, nn

from packify.capture.binding import arguments, call_rule
from packify.capture.operators import rule_of
from packify.core.errors import PackError, PackifyError
from packify.core.report import Note
from packify.nn.members import FRONT
from packify.nn.tree import is_constant
from packify.nn.wrappers import part_of
from packify.nn.writes import store
from packify.packing.builder import PackBuilder, PackedValue, packed_values_in
from packify.packing.votes import chosen_axes


class HasPack(Protocol):
    """The part of a rule that this pass uses."""

    @property
    def pack(self) -> Any: ...
    @property
    def signature(self) -> Any: ...
    @property
    def traits(self) -> Any: ...


@dataclass
class PackedGraph:
    """One mode's packed graph, whose outputs are ``"m b ..."``, and what happened on the way.

    Attributes:
        ungrouped: weights that read a shared input.
    """

    graph: fx.Graph
    relayouts: list[Note] = field(default_factory=list)
    fallbacks: list[Note] = field(default_factory=list)
    ungrouped: set[str] = field(default_factory=set)


def pack_graph(
    graph: fx.Graph,
    root: nn.Module,
    members: int,
    rules: Mapping[Any, HasPack],
    *,
    independent: bool = False,
    written: Collection[str] = (),
    shared: Collection[str] = frozenset(),
) -> PackedGraph:
    """The packed form of one member's graph.

    Args:
        graph: the member's graph, with its meta values.
        root: the packed network's module tree.
        members: M.
        rules: operator to rule.
        written: buffers that any mode's graph writes to, see `stored_in`: these hold one value per member.
        independent: inputs are ``"(m b) ..."``, one batch per member, instead of shared.
        shared: names of parameters and buffers that all members share, where members do not have everything of their own.

    Raises:
        PackError: no treatment of a node keeps the members apart.
    """

    def walk(wishes: Mapping[fx.Node, int]) -> PackBuilder:
        packer = _Packer(PackBuilder(members, root, shared=shared, wishes=wishes), rules, independent, written)
        builder = packer.builder
        for node in graph.nodes:
            builder.current, last = node, next(iter(reversed(builder.graph.nodes)), None)
            builder.env[node] = packer.visit(node)
            builder.stamp_since(last)
        return builder

    return _finished(_with_votes(walk))


# How often the choice of axes is made again with what the last choice has led to.
_ROUNDS = 3


def _with_votes(walk: Callable[[Mapping[fx.Node, int]], PackBuilder]) -> PackBuilder:
    """Walk once as operands come, and again with the axes that most makers and readers of values have, while that moves less."""
    builder = walk({})
    for _ in range(_ROUNDS):
        wishes = chosen_axes(builder.meetings, builder.demands) if builder.moved else {}
        if not wishes or wishes == builder.wishes:
            break
        other = walk(wishes)
        if other.moved >= builder.moved:
            break
        builder = other
    return builder


def _finished(builder: PackBuilder) -> PackedGraph:
    """The graph without what nothing reads, whose nodes know whose values they have."""
    for node in reversed(list(builder.graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output", "call_module") and node.target is not store:
            builder.graph.erase_node(node)
    for node, value in builder.env.items():
        made = value.node if isinstance(value, PackedValue) else value
        if isinstance(made, fx.Node):
            made.meta["recorded"] = (*made.meta.get("recorded", ()), *node.meta["recorded"])
    return PackedGraph(builder.graph, builder.relayouts, builder.fallbacks, builder.ungrouped - builder.grouped)


class _Packer:
    def __init__(self, builder: PackBuilder, rules: Mapping[Any, HasPack], independent: bool, changed: Collection[str]) -> None:
        self.builder, self.rules, self.independent, self.changed = builder, rules, independent, changed

    def visit(self, node: fx.Node) -> Any:
        builder, value = self.builder, node.meta["val"]
        if node.op == "placeholder":
            return builder.result(
                builder.stamp(builder.graph.placeholder(str(node.target))), value, 0 if self.independent and builder.members > 1 else None
            )
        if node.op == "get_attr":
            return self._tensor(node)
        args, kwargs = builder.values(node)
        if node.op == "output":
            return builder.graph.output(tuple(self._leaf(leaf) for leaf in args[0]))
        op = node.meta["op"]
        if op in ("size", "numel") and isinstance(args[0], PackedValue):
            return self._size(op, args[0], arguments(node, values=(args, kwargs)).get("dim"))
        if not isinstance(value, (torch.Tensor, tuple, list)) and value is not None:
            return builder.again(node, args, kwargs)
        if op == "getitem" and isinstance(args[0], tuple):
            return args[0][args[1]]
        return self._pack(node, args, kwargs)

    def _pack(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        rule, builder = rule_of(self.rules, node), self.builder
        builder.signature = None if rule is None else rule.signature
        builder.traits = frozenset() if rule is None else rule.traits or frozenset()
        try:
            if rule is not None and rule.pack is not None:
                return call_rule(rule.pack, (builder, node), node, rule.signature, (args, kwargs))
            if node.op != "call_module" and not any(tensor.packed for tensor in packed_values_in((args, kwargs))):
                if node.meta.get("random") and builder.members > 1 and node.meta["val"] is not None:
                    return builder.fallback(node, why="each member draws its own")
                return builder.native(node, args, kwargs, None)
            return builder.fallback(node, why="it has no rule of its own")
        except PackifyError:
            raise
        except Exception as error:
            raise PackError(
                f"{node.meta['path'] or node.name} ({node.meta['source']})",
                found=f"{node.format_node()}: {type(error).__name__}: {error}",
                why="no treatment of this call is known that keeps the members apart",
                fix="please report this call; meanwhile keep the module whole with leaves=[ItsType]",
            ) from error

    def _tensor(self, node: fx.Node) -> PackedValue:
        """Parameters and buffers are packed, constants of the code shared.

        Index buffers are the same for all members: one share is read.
        """
        builder, value, name = self.builder, node.meta["val"], str(node.target)
        made = builder.stamp(builder.graph.get_attr(name))
        path, _, attribute = name.rpartition(".")
        owner = part_of(builder.root, path)
        constant = (attribute not in owner._parameters and attribute not in owner._buffers) or is_constant(name)
        constant = constant or name in builder.shared
        if constant or builder.members == 1:  # one member is the network itself: there is nothing to keep apart
            made = made if constant or value.dim() else builder.emit(torch.reshape, made, ())
            kept: PackedValue = builder.result(made, value, None)
            return kept
        if value.dim() == 0:
            tensor: PackedValue = builder.result(made, value, FRONT if attribute in owner._parameters or name in self.changed else None)
            return tensor
        if value.is_floating_point() or value.is_complex() or name in self.changed:
            packed: PackedValue = builder.result(made, value, 0)
            return packed
        shared: PackedValue = builder.result(builder.emit(torch.narrow, made, 0, 0, value.shape[0]), value, None)
        return shared

    def _size(self, op: str, tensor: PackedValue, axis: Any) -> fx.Node:
        builder = self.builder
        if op == "numel":
            count = builder.method("numel", tensor)
            return builder.emit(_floordiv, count, builder.members) if tensor.packed else count
        axis %= tensor.ndim
        size = builder.method("size", tensor, axis + (tensor.axis == FRONT))
        return builder.emit(_floordiv, size, builder.members) if tensor.axis == axis else size

    def _leaf(self, leaf: Any) -> Any:
        """One output as ``"m ..."``."""
        if not isinstance(leaf, PackedValue):
            return leaf
        if leaf.packed:
            return self.builder.front(leaf)
        return self.builder.emit(_repeat, leaf, self.builder.members)


def _floordiv(value: int, members: int) -> int:
    return value // members


def _repeat(tensor: torch.Tensor, members: int) -> torch.Tensor:
    """A shared output, once per member: ``"... -> m ..."``."""
    return tensor.unsqueeze(0).expand(members, *tensor.shape)
