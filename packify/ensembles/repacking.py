"""The packed form of a member: tree and graphs for any M, from a recording's member or from what a packed network keeps of it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from packify.capture.functionalise import stored_in
from packify.core.errors import PackError
from packify.core.graph_check import graph_checks
from packify.core.report import LayerWidth
from packify.nn.block import remove_blocks
from packify.nn.layers import pack_layer
from packify.nn.packed_network import PackedNetwork
from packify.nn.tree import build_tree, is_constant, leaf_names
from packify.ops.rule import Rule
from packify.ops.table import merged
from packify.packing.layout_check import check_layouts
from packify.packing.packer import PackedGraph, pack_graph


def packed_form(
    body: nn.Module,
    graphs: Mapping[str, fx.Graph],
    members: int,
    layers: Sequence[LayerWidth],
    *,
    leaves: tuple[type[nn.Module], ...],
    table: Mapping[Any, Rule],
    device_of: Callable[[str], torch.device],
) -> tuple[nn.Module, dict[str, PackedGraph]]:
    """The module tree of M members, its tensors allocated and not yet filled, and their graphs by mode.

    Args:
        body: the member's tree on the meta device.
        graphs: the member's graphs by mode.
        members: M.
        layers: the member's layers, for their groups.
        leaves: module types kept whole.
        table: every operator's rule.
        device_of: where a tensor of that name lies.

    Raises:
        PackError: no treatment of a node keeps the members apart.
    """
    written = written_buffers(graphs)

    def allocate(name: str, tensor: Tensor) -> Tensor:
        if is_constant(name):
            return torch.empty_like(tensor, device=device_of(name))
        counted = isinstance(tensor, nn.Parameter) or tensor.dim() or name in written
        shape = (members * tensor.shape[0], *tensor.shape[1:]) if tensor.dim() else (members,) if counted else ()
        return torch.empty(shape, dtype=tensor.dtype, device=device_of(name))

    root = build_tree(body, allocate, leaves)
    remove_blocks(root)
    packed = {id(graph): pack_graph(graph, root, members, table, written=written) for graph in graphs.values()}
    ungrouped = set.intersection(*(graph.ungrouped for graph in packed.values()))
    widths = {layer.name: layer for layer in layers}
    whole = leaf_names(root, leaves)
    for name, module in root.named_modules():
        if name not in whole:
            pack_layer(module, members, widths.get(name), shared_input=f"{name}.weight" in ungrouped)
    return root, {mode: packed[id(graph)] for mode, graph in graphs.items()}


def check_forms(packed: Iterable[PackedGraph], root: nn.Module, members: int, shared: Collection[str] = frozenset()) -> None:
    """Where checks of graphs are on, check these as they run over a tree that holds all its tensors, of which members share `shared`.

    Raises:
        GraphBroken: naming the first node at fault.
    """
    if graph_checks.get():
        for graph in packed:
            check_layouts(graph.graph, root, members, shared)


def written_buffers(graphs: Mapping[str, fx.Graph]) -> Collection[str]:
    """Buffers that any mode's graph writes to: these hold one value per member."""
    return {name for graph in graphs.values() for name in stored_in(graph)}


class RuleBook:
    """The operator rules that a network was packed by; a packed network keeps them, so that its member can be packed once more.

    Args:
        own: the user's own, wrapped; None where they did not survive pickling.
    """

    def __init__(self, own: Mapping[Any, Rule] | None) -> None:
        self.own = own

    @property
    def table(self) -> Mapping[Any, Rule]:
        """Every operator's rule.

        Raises:
            PackError: the user's own rules are lost.
        """
        if self.own is None:
            raise PackError(
                "rules",
                found="a network that was pickled",
                why="it was packed with operator rules that cannot be pickled, so its member cannot be packed once more",
                fix="pack the reference again: packify.pack(model, x, ..., rules=rules)",
            )
        return merged(self.own)

    def independent(self, packed: PackedNetwork) -> dict[str, fx.Graph]:
        """The packed graphs that take inputs ``"(m b) ..."``, by mode."""
        graphs, members = packed.member_template.graphs, packed.num_estimators
        written = written_buffers(graphs)
        made = {
            id(graph): pack_graph(graph, packed.body, members, self.table, independent=True, written=written) for graph in graphs.values()
        }
        check_forms(made.values(), packed.body, members)
        return {mode: made[id(graph)].graph for mode, graph in graphs.items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> RuleBook:
        """Nothing changes it."""
        return self

    def __reduce__(self) -> tuple[type[RuleBook], tuple[Mapping[Any, Rule] | None]]:
        try:
            pickle.dumps(self.own)
        except Exception:  # whatever a user's function raises: the network itself can be pickled all the same
            return RuleBook, (None,)
        return RuleBook, (self.own,)
