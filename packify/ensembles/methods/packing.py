"""All members of a method in one graph: what they share is held once, what is their own M times, member-major."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from packify.capture.functionalise import stored_in
from packify.ensembles.assembly import first_device
from packify.ensembles.methods.member import MethodMember, Source, named_tensors, shared_names, with_ties
from packify.ensembles.repacking import check_forms
from packify.nn.layers import pack_layer
from packify.nn.packed_network import PackedNetwork
from packify.nn.tree import build_tree
from packify.nn.writes import store
from packify.ops.rule import Rule
from packify.ops.shared_rows import with_method_rows
from packify.ops.table import merged
from packify.packing.packer import PackedGraph, pack_graph


def packed_members(member: MethodMember, source: Source, members: int) -> tuple[nn.Module, dict[int, PackedGraph]]:
    """Tree and graphs of all members; buffers that are given what members compute are the members' own."""
    while True:
        root = _allocated(member, source, members)
        packed = {id(graph): pack(graph, root, members, source.table, member) for graph in member.graphs.values()}
        written = {name for graph in packed.values() for name in _written_by_members(graph.graph)} - member.own
        if not written:
            return root, packed
        member.own |= written
        member.own = with_ties(member)


def pack(
    graph: fx.Graph, root: nn.Module, members: int, table: Mapping[Any, Rule], member: MethodMember, independent: bool = False
) -> PackedGraph:
    """One mode's graph of all members."""
    written = {name for one in member.graphs.values() for name in stored_in(one)}
    return pack_graph(graph, root, members, with_method_rows(table), written=written, shared=shared_names(member), independent=independent)


def _written_by_members(graph: fx.Graph) -> list[str]:
    """Shared buffers that are given a value that differs between members."""
    stores = (node for node in graph.nodes if node.target is store)
    return [
        str(node.args[0].target)
        for node in stores
        if node.args[0].meta.get("axis") is None and isinstance(node.args[1], fx.Node) and node.args[1].meta.get("axis") is not None
    ]


def _allocated(member: MethodMember, source: Source, members: int) -> nn.Module:
    """The module tree of all members: M times what they have of their own, everything else once."""
    held = dict(named_tensors(source.model))
    shared, device = shared_names(member), first_device(source.model)
    written = {name for graph in member.graphs.values() for name in stored_in(graph)}

    def allocate(name: str, tensor: Tensor) -> Tensor:
        where = held[name].device if name in held else device
        if name in shared:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device=where)
        counted = isinstance(tensor, nn.Parameter) or name in written
        shape = (members * tensor.shape[0], *tensor.shape[1:]) if tensor.dim() else (members,) if counted else ()
        return torch.empty(shape, dtype=tensor.dtype, device=where)

    root = build_tree(member.root, allocate, source.graphs.leaves)
    for name, module in root.named_modules():
        own = [
            f"{name}.{held_name}".lstrip(".")
            for held_name, tensor in (*module._parameters.items(), *module._buffers.items())
            if tensor is not None and tensor.dim()
        ]
        if isinstance(module, nn.RNNBase) or (own and not module._modules and shared.isdisjoint(own)):
            pack_layer(module, members)
    return root


class MethodRepacker:
    """Packs the member of a method once more, for inputs of the members' own. Rules that cannot be pickled are lost in a pickle.

    Args:
        rules: the user's own operator rules, wrapped.
        member: what the method made of the recording.
        tree: of one member, on meta, with everything that its graphs read.
    """

    def __init__(self, rules: Mapping[Any, Rule], member: MethodMember, tree: nn.Module) -> None:
        self.rules, self.member, self.tree = rules, member, tree

    def turn_form(self, mode: str) -> tuple[fx.Graph, nn.Module]:
        """The graph of one member beside the shared weights, and a tree with the shapes of what it reads."""
        return self.member.graphs[mode], self.tree

    def independent(self, packed: PackedNetwork) -> dict[str, fx.Graph]:
        """The packed graphs that take inputs ``"(m b) ..."``, by mode."""
        graphs, members, table = self.member.graphs, packed.num_estimators, merged(self.rules)
        made = {id(graph): pack(graph, packed.body, members, table, self.member, independent=True) for graph in graphs.values()}
        check_forms(made.values(), packed.body, members, shared_names(self.member))
        return {mode: made[id(graph)].graph for mode, graph in graphs.items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> MethodRepacker:
        """Nothing changes it."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        rules: Mapping[Any, Rule] = self.rules
        try:
            pickle.dumps(rules)
        except Exception:  # whatever a user's function raises: the network itself can be pickled all the same
            rules = {}
        return {"rules": rules, "member": self.member, "tree": self.tree}
