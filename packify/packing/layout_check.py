"""A check of a packed graph: every value has its layout and a member's tensor that fits it, and members never meet.

What only numbers can tell, `packify.verify` measures; this check needs no data and names the node that a rule has emitted wrongly.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx, nn

from packify.capture.meta import meta_copy
from packify.capture.values import call_on_meta
from packify.core import nested
from packify.core.graph_check import broken, check_graph
from packify.nn.members import FRONT, PerMember
from packify.nn.wrappers import part_of

# What reads a tensor on its channels and one parameter per channel, or per output channel, on axis 0.
_PER_CHANNEL = frozenset(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d batch_norm instance_norm group_norm prelu linear".split()
)
# Of other tensors than the first, only the dtype and the device are read.
_READS_KIND = frozenset(("to", "type_as"))
_PASS = "packing"  # noqa: S105  the name of a pass


def check_layouts(graph: fx.Graph, root: nn.Module, members: int, shared: Collection[str] = frozenset()) -> None:
    """Check a packed graph as the packing pass leaves it.

    Args:
        graph: of one mode.
        root: the packed network's module tree.
        members: M.
        shared: names of parameters and buffers that all members share.

    Raises:
        GraphBroken: naming the first node at fault.
    """
    check_graph(graph, _PASS)
    if members == 1:  # the network itself
        return
    run = _MetaRun(root, members)
    with torch.no_grad():
        for node in graph.nodes:
            run.visit(node)
            _check_value(node, run.values.get(node), members)
            _check_operands(node, root, shared)


def _check_value(node: fx.Node, found: Any, members: int) -> None:
    """A tensor has a layout and a member's tensor that fits it, or is read by the rule that made it and by nobody else."""
    if "axis" not in node.meta:
        strangers = [user for user in node.users if user.meta.get("member_node") is not node.meta.get("member_node")]
        if isinstance(found, Tensor) and strangers:
            raise broken(node, _PASS, f"a tensor without a layout, read by {strangers[0].name}", "a reader must know where the members are")
        return
    axis, member = node.meta["axis"], node.meta["val"]
    if axis is not None and axis != FRONT and not 0 <= axis < member.dim():
        raise broken(node, _PASS, f"members on axis {axis} of {member.dim()}", "the axis that carries the members is one of the tensor's")
    wanted = packed_shape(tuple(member.shape), axis, members)
    if isinstance(found, Tensor) and tuple(found.shape) != wanted:
        found_and_wanted = f"a tensor of shape {tuple(found.shape)}, where a member's is {tuple(member.shape)}"
        raise broken(node, _PASS, f"{found_and_wanted}, members on axis {axis}", f"M = {members} members make {wanted} of that")


def packed_shape(shape: tuple[int, ...], axis: int | None, members: int) -> tuple[int, ...]:
    """The shape of a packed tensor, from a member's and its layout."""
    if axis is None:
        return shape
    return (members, *shape) if axis == FRONT else (*shape[:axis], members * shape[axis], *shape[axis + 1 :])


def _check_operands(node: fx.Node, root: nn.Module, shared: Collection[str]) -> None:
    """Packed tensors meet only where their members are on the same axis, unless the function is made to keep them apart."""
    if not node.op.startswith("call") or _keeps_apart(node.target):
        return
    operands = node.all_input_nodes[:1] if node.meta["op"] in _READS_KIND else node.all_input_nodes
    packed = [source for source in operands if source.meta.get("axis") is not None]
    if not packed:  # nothing to meet: a number, such as a count of groups
        return
    if node.op == "call_module":
        parameters = part_of(root, str(node.target)).named_parameters()
        per_channel = {f"{node.target}.{name}" not in shared for name, tensor in parameters if tensor.dim()}
        wanted = 1 if True in per_channel else 0  # one layer for all members takes them as samples
        together = not per_channel or all(source.meta["axis"] == min(wanted, source.meta["val"].dim() - 1) for source in packed)
    elif node.meta["op"] in _PER_CHANNEL:
        together = _on_channels(node, packed)
    else:
        together = len({_from_the_back(source) for source in packed}) <= 1
    if not together:
        layouts = ", ".join(f"{source.name} on axis {source.meta['axis']} of {source.meta['val'].dim()}" for source in packed)
        raise broken(node, _PASS, f"members of {layouts}", "one call reads the members of different places as if they were one: they meet")


def _keeps_apart(target: Any) -> bool:
    return isinstance(target, PerMember) or str(getattr(target, "__module__", "")).startswith("packify.")


def _from_the_back(source: fx.Node) -> int | str:
    """Where members are, counted as broadcasting counts."""
    return "front" if source.meta["axis"] == FRONT else int(source.meta["axis"]) - source.meta["val"].dim()


def _on_channels(node: fx.Node, packed: list[fx.Node]) -> bool:
    """Parameters are packed on axis 0, and what they are applied to on the axis of its channels."""
    tensors = [source for source in node.all_input_nodes if isinstance(source.meta.get("val"), Tensor)]
    data, parameters = next(iter(tensors), None), tensors[1:]
    if data is None or data not in packed:
        return all(source.meta["axis"] == 0 for source in packed)
    if len(packed) == 1:
        return True
    rank = parameters[0].meta["val"].dim()
    batched = data.meta["val"].dim() == rank if node.meta["op"].startswith("conv") else data.meta["val"].dim() > 1
    return data.meta["axis"] == int(batched) and all(source.meta["axis"] == 0 for source in packed if source is not data)


class _MetaRun:
    """A packed graph run node by node without data.

    Attributes:
        values: what each node computes; modules that are called whole are taken to compute what their layout says.
    """

    def __init__(self, root: nn.Module, members: int) -> None:
        self.root, self.members = meta_copy(root), members
        self.values: dict[fx.Node, Any] = {}

    def visit(self, node: fx.Node) -> None:
        if node.op == "get_attr":
            path, _, attribute = str(node.target).rpartition(".")
            held = getattr(part_of(self.root, path), attribute)
            self.values[node] = held.detach().to("meta") if isinstance(held, Tensor) else held
        elif node.op in ("placeholder", "call_module") or (isinstance(node.target, PerMember) and node.target.function is None):
            if "axis" in node.meta:
                member = node.meta["val"]
                self.values[node] = member.new_empty(packed_shape(tuple(member.shape), node.meta["axis"], self.members))
        elif node.op != "output" and all(source in self.values for source in node.all_input_nodes):
            self.values[node] = self._call(node)

    def _call(self, node: fx.Node) -> Any:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__)
        target: Any = getattr(torch.Tensor, str(node.target)) if node.op == "call_method" else node.target
        try:
            return call_on_meta(str(node.target) if node.op == "call_method" else "", target, args, kwargs)
        except Exception as error:
            shapes = [tuple(leaf.shape) for leaf in nested.leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            found = f"{type(error).__name__}: {error} (operands {shapes})"
            raise broken(node, _PASS, found, "the packed call does not run where the member's does") from error
