"""A member of Masksembles alone: the shared network without the columns that its masks leave out, and without the channels nobody reads.

The widths of the network are propagated once, with a width of its own for what each masked layer reads; a member's masks then say which
channels are left, and the same builder that makes slim members makes this one. Where two layers read different channels of one tensor,
what both read stays, and each takes its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from packify.capture.graphs import RecordedGraphs
from packify.core.errors import PackError
from packify.ensembles.methods.reading import Kept, kept_channels, positions_left
from packify.nn.block import remove_blocks
from packify.nn.exchange import member_parts
from packify.nn.graph_network import MemberNetwork
from packify.nn.scaling import read_channels, scale_channels, take_channels
from packify.nn.shared_network import SharedNetwork
from packify.nn.tree import sized_tree
from packify.ops.rule import Rule
from packify.ops.shared_rows import with_method_rows
from packify.ops.table import merged
from packify.widths.analysis import WidthAnalysis, flat
from packify.widths.assignment import Sizes
from packify.widths.dims import Dim
from packify.widths.member import Builder, MemberGraph

_MAX_ROUNDS = 50


class MaskSlimmer:
    """Makes members of Masksembles alone; the widths of the last network that it was asked about are kept.

    Args:
        rules: the user's own operator rules, wrapped.
        tables: parameters that are operators for good, as the recording knows them.
        drawn: the masks as they were drawn, for networks without data.
    """

    def __init__(self, rules: Mapping[Any, Rule], tables: frozenset[str], drawn: Mapping[str, Tensor]) -> None:
        self.rules, self.tables, self.drawn = rules, tables, drawn
        self._known: tuple[tuple[int, ...], WidthAnalysis] | None = None

    def extract(self, network: SharedNetwork, member: int) -> MemberNetwork:
        """Member `member` of `network`, with copies of its weights."""
        analysis = self._analysis(network)
        masks = self._masks(network, member)
        kept, graphs = _built(analysis, masks, network.leaves)
        exchanged = member_parts(network, member)
        read_whole = _masks_in(graphs)

        def share(name: str, tensor: Tensor) -> Tensor | None:
            if name in masks and name not in read_whole:
                return None
            whole = network.member_tensor(name, member, tensor.shape)
            return _cut(whole, analysis.parameters.dims[name], kept).clone()

        body = network.tree_of_member(network.member_template.body, share, exchanged)
        remove_blocks(body)
        modes = network.member_template.graphs.items()
        finished = {key: _with_taken(result, masks, kept, analysis, body) for key, result in graphs.items()}
        template = network.member_template
        return MemberNetwork(body, {mode: finished[id(graph)] for mode, graph in modes}, template.interface, template.unused, template.cut)

    def params(self, network: SharedNetwork) -> list[int]:
        """The number of parameters of each member alone."""
        analysis, found = self._analysis(network), []
        for member in range(network.num_estimators):
            kept = kept_channels(analysis, self._masks(network, member))
            dims = analysis.parameters.dims
            found.append(sum(_numel(dims[name], kept) for name, _ in network.member_template.body.named_parameters()))
        return found

    def _masks(self, network: SharedNetwork, member: int) -> dict[str, list[int]]:
        """The channels that a member's masks keep, by the masks' names."""
        held = {name: buffer for name, buffer in network.named_buffers() if name in self.drawn}
        masks = {name: self.drawn[name] if buffer.is_meta else buffer for name, buffer in held.items()}
        return {name: mask[member].nonzero().flatten().tolist() for name, mask in masks.items()}

    def _analysis(self, network: SharedNetwork) -> WidthAnalysis:
        """The widths of the network, propagated through graphs in which masked layers read channels of their own."""
        template = network.member_template
        key = tuple(id(graph) for graph in template.graphs.values())
        if self._known is None or self._known[0] != key:
            made = {id(graph): _reading(graph) for graph in template.graphs.values()}
            nothing: Any = None
            recorded = RecordedGraphs(
                root=template.body,
                graphs={mode: made[id(graph)] for mode, graph in template.graphs.items()},
                constants={},
                inputs=[],
                input_template=None,
                signature=nothing,
                outputs={},
                batch=None,
                leaves=network.leaves,
                tables=self.tables,
            )
            self._known = key, WidthAnalysis(recorded, with_method_rows(merged(self.rules)))
            self._known[1].__dict__["by_graph"] = {id(graph): id(made[id(graph)]) for graph in template.graphs.values()}
        return self._known[1]

    def __deepcopy__(self, memo: dict[int, Any]) -> MaskSlimmer:
        """What is known of widths is found again."""
        return MaskSlimmer(self.rules, self.tables, self.drawn)

    def __reduce__(self) -> Any:
        return MaskSlimmer, (self.rules, self.tables, self.drawn)


def _reading(graph: fx.Graph) -> fx.Graph:
    """A copy in which the layers whose columns can be cut read through `read_channels`."""
    made, nodes = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        new = nodes[node] = made.node_copy(node, nodes.__getitem__)
        new.meta = dict(node.meta)
        if node.target is scale_channels and node.meta.get("cut"):
            new.target = read_channels
    return made


def _built(
    analysis: WidthAnalysis, masks: Mapping[str, list[int]], leaves: tuple[type[nn.Module], ...]
) -> tuple[Kept, dict[int, MemberGraph]]:
    """The channels that are left, and the graphs at these widths, by the graphs of the template.

    Raises:
        PackError: an operator does not run although all its channels are left.
    """
    whole: list[Dim] = []
    dims = analysis.parameters.dims
    for _ in range(_MAX_ROUNDS):
        kept = kept_channels(analysis, masks, whole)
        sizes = Sizes({dim: len(left) for dim, left in kept.items()}, {})

        def empty(name: str, tensor: Tensor, sizes: Sizes = sizes) -> Tensor:
            return torch.empty([sizes.of(dim) for dim in dims[name]], dtype=tensor.dtype, device="meta")

        root = sized_tree(analysis.recorded.root, empty, leaves)
        remove_blocks(root)
        built = {
            key: Builder(propagation, root, {}, analysis.rules, {}, set(), leaves, sizes, analysis.calls).build()
            for key, propagation in analysis.propagations.items()
        }
        conflicts = [(key, conflict) for key, result in built.items() for conflict in result.conflicts]
        if not conflicts:
            for result in built.values():
                for old, new in result.nodes.items():
                    new.meta["recorded"] = old.meta.get("recorded", ())
            return kept, {graph: built[made] for graph, made in analysis.__dict__["by_graph"].items()}
        blamed = [
            dim
            for key, one in conflicts
            for node in (one.node, *one.node.all_input_nodes)
            for dim in flat(analysis.propagations[key].dims[node])
        ]
        if not {atom for dim in blamed for atom in dim.atoms()} - {atom for dim in whole for atom in dim.atoms()}:
            break
        whole += blamed
    node = conflicts[0][1].node
    raise PackError(
        f"{node.meta['path'] or node.name} ({node.meta['source']})",
        found=f"{node.format_node()}: {conflicts[0][1].found}",
        why="the member alone does not run although every channel of this operator is left",
        fix="please report this call; meanwhile keep the module whole with leaves=[ItsType]",
    )


def _masks_in(graphs: Mapping[int, MemberGraph]) -> set[str]:
    """The masks that are multiplied with in a member alone too: their layers' weights are computed, shared or grouped."""
    return {str(node.args[1].target) for result in graphs.values() for node in result.graph.nodes if node.target is scale_channels}


def _with_taken(result: MemberGraph, masks: Mapping[str, list[int]], kept: Kept, analysis: WidthAnalysis, body: nn.Module) -> fx.Graph:
    """The graph in which every masked layer reads its channels of what is left; nothing is done where that is all of them."""
    graph = result.graph
    dims = {
        new: propagation.dims[old]
        for propagation in analysis.propagations.values()
        for old, new in result.nodes.items()
        if old in propagation.dims
    }
    for node in list(graph.nodes):
        if node.target is not read_channels:
            continue
        data, mask, axis = node.args
        left, wanted = positions_left(dims[data][axis], kept), masks[str(mask.target)]
        positions = wanted if left is None else [left.index(channel) for channel in wanted]
        count = dims[data][axis].root().size if left is None else len(left)
        if positions == list(range(count)):
            node.replace_all_uses_with(data)
            graph.erase_node(node)
        else:
            name = _register(body, str(mask.target), positions)
            with graph.inserting_before(node):
                read = graph.get_attr(name)
            read.meta = {**mask.meta, "recorded": (), "op": "get_attr", "val": torch.empty(len(positions), dtype=torch.long, device="meta")}
            node.target, node.args = take_channels, (data, read, axis)
            node.meta.pop("signature", None)
        if not mask.users:
            graph.erase_node(mask)
    return graph


def _register(body: nn.Module, mask: str, positions: list[int]) -> str:
    """A buffer of positions beside where the mask was: ``conv2.mask`` becomes ``conv2.mask_channels``."""
    path, _, attribute = mask.rpartition(".")
    owner = body.get_submodule(path)
    owner.register_buffer(f"{attribute}_channels", torch.tensor(positions, device=_device(body)))
    return f"{path}.{attribute}_channels".lstrip(".")


def _device(body: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*body.parameters(), *body.buffers())), torch.device("cpu"))


def _cut(tensor: Tensor, dims: list[Dim], kept: Kept) -> Tensor:
    """What is left of a tensor."""
    for axis, dim in enumerate(dims):
        left = positions_left(dim, kept)
        if left is not None:
            tensor = tensor.index_select(axis, torch.tensor(left, device=tensor.device))
    return tensor


def _numel(dims: list[Dim], kept: Kept) -> int:
    count = 1
    for dim in dims:
        left = positions_left(dim, kept)
        count *= dim.root().size if left is None else len(left)
    return count
