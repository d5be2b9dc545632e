"""Where a member's convs and linears are cut into gamma subgroups (paper, section 3.1 and Table 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from packify.capture.binding import arguments
from packify.capture.operators import traits_of
from packify.core.spec import Spec

Traits = Mapping[fx.Node, frozenset[str]]


@dataclass(frozen=True)
class Place:
    """Where a layer stands in the graph."""

    first: bool
    last: bool
    enters_branch: bool

    @property
    def wants(self) -> str:
        """Why the layer keeps gamma = 1 under the ``paper`` policy; empty if it does not."""
        if self.first:
            return "it is a first layer"
        if self.last:
            return "it is a last layer"
        return "it opens a residual branch by reading the stream directly" if self.enters_branch else ""


def places(graph: fx.Graph, rules: Mapping[Any, Any]) -> dict[fx.Node, Place]:
    """The place of every layer node."""
    nodes = list(graph.nodes)
    traits = {node: traits_of(rules, node) for node in nodes}
    position = {node: index for index, node in enumerate(nodes)}
    layers = [node for node in nodes if "layer" in traits[node]]
    ancestors, packed = _ancestors(nodes, position)
    last = _last(graph, traits)
    branch_entry_layers = set(_branch_entry_layers(nodes, position, ancestors, packed, traits))
    return {node: Place(_data(node) not in packed, node in last, node in branch_entry_layers) for node in layers}


def gamma_for(spec: Spec, place: Place, member_in: int, groups: int, can_cut: Callable[[int], bool]) -> tuple[int, str]:
    """The gamma that a layer gets, and why it is lower than asked.

    Args:
        spec: alpha, M, gamma and the policy.
        place: where the layer stands.
        member_in: its input channels in a member.
        groups: its own groups there.
        can_cut: whether so many subgroups can make every part of its output.
    """
    if spec.gamma == 1:
        return 1, ""
    fixed = place.wants if spec.gamma_policy == "paper" or place.first or place.last else ""
    if fixed:
        return 1, fixed
    least = spec.min_channels_per_group if spec.gamma_policy == "paper" else 1

    def can_read(gamma: int) -> bool:
        return member_in % (groups * gamma) == 0 and member_in // (groups * gamma) >= least

    gamma = next((gamma for gamma in range(spec.gamma, 1, -1) if can_read(gamma) and can_cut(gamma)), 1)
    if gamma == spec.gamma:
        return gamma, ""
    if can_read(spec.gamma):
        return gamma, f"a part of its output does not make {spec.gamma} groups of equal size"
    return gamma, f"{member_in} channels do not make {spec.gamma} groups" + (f" of at least {least}" if least > 1 else " of equal size")


def _data(node: fx.Node) -> fx.Node | None:
    value = next(iter(arguments(node).values()), None)
    return value if isinstance(value, fx.Node) else None


def _ancestors(nodes: list[fx.Node], position: dict[fx.Node, int]) -> tuple[list[int], set[fx.Node]]:
    """Per node the set of nodes that it is computed from, as bits, parameters left out; and the nodes that any layer precedes."""
    ancestors: list[int] = []
    packed: set[fx.Node] = set()
    for index, node in enumerate(nodes):
        bits = 0 if node.op == "get_attr" else 1 << index
        for parent in node.all_input_nodes:
            if isinstance(parent.meta["val"], (torch.Tensor, tuple, list)):
                bits |= ancestors[position[parent]]
                if parent in packed or parent.op == "get_attr":
                    packed.add(node)
        ancestors.append(bits)
    return ancestors, packed


def _last(graph: fx.Graph, traits: Traits) -> set[fx.Node]:
    """Layers between which and the output there is no other layer."""
    found: set[fx.Node] = set()
    seen: set[fx.Node] = set()
    stack = [node for output in graph.find_nodes(op="output") for node in output.all_input_nodes]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if "layer" in traits[node]:
            found.add(node)
        else:
            stack += node.all_input_nodes
    return found


def _branch_entry_layers(
    nodes: list[fx.Node], position: dict[fx.Node, int], ancestors: list[int], packed: set[fx.Node], traits: Traits
) -> Iterator[fx.Node]:
    for node in nodes:
        sides = [arg for arg in node.args if isinstance(arg, fx.Node) and arg in packed and isinstance(arg.meta["val"], torch.Tensor)]
        if node.meta["op"] != "add" or len(sides) != 2:
            continue
        common = ancestors[position[sides[0]]] & ancestors[position[sides[1]]]
        if not common:
            continue
        fork = common.bit_length() - 1
        lengths = [_layers_between(nodes, position, fork, position[side], traits) for side in sides]
        if lengths[0] == lengths[1]:
            continue
        branch = position[sides[0] if lengths[0] > lengths[1] else sides[1]]
        shortcut = position[sides[1] if lengths[0] > lengths[1] else sides[0]]
        for index in range(fork + 1, branch + 1):
            candidate = nodes[index]
            inside = ancestors[branch] >> index & 1 and not ancestors[shortcut] >> index & 1
            if inside and "layer" in traits[candidate] and _reads(candidate, nodes[fork], traits):
                yield candidate


def _layers_between(nodes: list[fx.Node], position: dict[fx.Node, int], start: int, end: int, traits: Traits) -> int:
    """The fewest layers on a path from one node to another."""
    fewest = {start: 0}
    for index in range(start + 1, end + 1):
        node = nodes[index]
        arriving = [fewest[position[parent]] for parent in node.all_input_nodes if position[parent] in fewest]
        if arriving:
            fewest[index] = min(arriving) + ("layer" in traits[node])
    return fewest.get(end, 0)


def _reads(layer: fx.Node, stream: fx.Node, traits: Traits) -> bool:
    node = _data(layer)
    while node is not None and node is not stream and "transparent" in traits[node]:
        node = _data(node)
    return node is stream
