"""From a method's graphs of one member to its network: tensors allocated and filled, members packed in the batch, report, averages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from packify.core import nested
from packify.core.graph_check import check_graph, graph_checks
from packify.core.method_report import MethodReport
from packify.core.method_specs import MethodSpec
from packify.core.report import Note
from packify.ensembles.assembly import first_device, match_modes, shapes_only
from packify.ensembles.averages import averages_of
from packify.ensembles.methods.member import MethodMember, Source, named_tensors, shared_names, with_ties
from packify.ensembles.methods.norms import from_inputs
from packify.ensembles.methods.packing import MethodRepacker, packed_members
from packify.ensembles.repacking import check_forms
from packify.ensembles.report_notes import hook_notes, unused_leaves, unused_notes
from packify.execution.running import Execution
from packify.nn.graph_network import Interface, MemberNetwork
from packify.nn.shared_network import SharedNetwork
from packify.nn.tree import add_constants, is_constant, sized_tree
from packify.packing.moves import relayout_bytes
from packify.packing.nesting import Nest
from packify.packing.packer import PackedGraph

Fill = Callable[[str, Tensor], None]
Start = Callable[[str, Tensor, Tensor], None]


def build(
    kind: type[SharedNetwork],
    spec: MethodSpec,
    source: Source,
    member: MethodMember,
    *,
    inputs: str,
    average: Any,
    fill: Fill,
    start: Start | None = None,
) -> Any:
    """The network of a method, where the reference's tensors are.

    Args:
        kind: the class of the network.
        spec: the method's settings.
        source: what it starts from.
        member: what the method makes of it.
        inputs: ``"shared"`` or ``"independent"``.
        average: how outputs are averaged, as the user says.
        fill: gives a tensor that the reference does not have its first values.
        start: gives a member's share of one that it has its first values, from the reference's; by default they are the reference's.
    """
    recorded, members = source.graphs, spec.num_estimators
    member.own = with_ties(member)
    for graph in {id(graph): graph for graph in member.graphs.values()}.values():
        if graph_checks.get():
            check_graph(graph, spec.method)
    root, packed = packed_members(member, source, members)
    tree, graphs = member.alone
    alone, turning = (sized_tree(each, lambda _, tensor: tensor, recorded.leaves) for each in (tree, member.root))
    for each in (root, alone, turning):
        add_constants(each, recorded.constants, first_device(source.model) if each is root else torch.device("meta"))
        match_modes(each, source.model)
    check_forms(packed.values(), root, members, shared_names(member))
    interface = Interface(recorded.signature, recorded.input_template, recorded.outputs)
    averages = averages_of(recorded, recorded.graphs, source.model, average, source.table)
    report, coupled = member.report, _coupled(member, root) if kind.separable else ()
    _tell(report, source, packed, coupled)
    report.averages = dict(zip(nested.paths(recorded.outputs["eval"]), averages.by_mode["eval"], strict=True))
    report.averaging = averages.notes
    cut = Nest(recorded.calls, members)
    network = kind(
        root,
        {mode: packed[id(graph)].graph for mode, graph in member.graphs.items()},
        MemberNetwork(alone, graphs, interface, recorded.unused, Nest(recorded.calls, 1)),
        interface,
        spec=spec,
        report=report,
        average=averages.by_mode,
        inputs=inputs,
        example_inputs=shapes_only(source.example_inputs),
        batched=recorded.any_batch,
        repacker=MethodRepacker(source.rules, member, turning),
        own=frozenset(member.own),
        added=member.added,
        folds=member.folds,
        coupled=coupled,
        leaves=recorded.leaves,
        output_choices=recorded.output_choices,
        unused=recorded.unused,
        cut=cut,
        executor=Execution(),
    )
    report.notes += cut.notes
    report.holds, report.does_not_hold = network.promises, network.does_not_hold
    report.params = sum(parameter.numel() for parameter in network.parameters())
    _fill(network, source.model, members, fill, start)
    return network


def _fill(network: SharedNetwork, model: nn.Module, members: int, fill: Fill, start: Start | None) -> None:
    """The reference's tensors, and the first values of what members have of their own."""
    held = dict(named_tensors(model))
    with torch.no_grad():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            if tensor.is_meta or is_constant(name):
                continue
            if name not in held:
                fill(name, tensor)
            elif name not in network.own:
                tensor.copy_(held[name])
            elif tensor.dim():
                for share in tensor.unflatten(0, (members, -1)):
                    own = share.view(held[name].shape)
                    own.copy_(held[name]) if start is None else start(name, held[name], own)


def _tell(report: MethodReport, source: Source, packed: Mapping[int, PackedGraph], coupled: tuple[str, ...]) -> None:
    recorded = source.graphs
    for graph in packed.values():
        report.relayouts += [note for note in graph.relayouts if note not in report.relayouts]
        report.fallbacks += [note for note in graph.fallbacks if note not in report.fallbacks]
    copied = [relayout_bytes(graph.graph, report.spec.num_estimators, recorded.batch) for graph in packed.values()]
    report.relayout_bytes = max(copied, default=0)
    report.reference_params = sum(parameter.numel() for parameter in source.model.parameters())
    report.coupled = list(coupled)
    report.notes += [*unused_notes(source.model, recorded, "drop"), *recorded.notes, *hook_notes(source.model)]
    report.notes += unused_leaves(recorded.leaves, source.model)
    if coupled:
        report.notes.append(Note(coupled[0] + (f" and {len(coupled) - 1} more" if len(coupled) > 1 else ""), "", _COUPLED, _COUPLED_WHY))


_COUPLED = "statistics of all members' activations in training mode"
_COUPLED_WHY = 'the norm is shared; norms="member" gives each member its own, where the method has that'


def _coupled(member: MethodMember, root: nn.Module) -> tuple[str, ...]:
    """Shared batch norms, by the names of their modules."""
    shared = shared_names(member)
    found: dict[str, None] = {}
    for graph in member.graphs.values():
        computed = from_inputs(graph)
        for node in graph.nodes:
            if node.op == "call_module" and isinstance(root.get_submodule(str(node.target)), nn.modules.batchnorm._BatchNorm):
                names = [
                    f"{node.target}.{name}"
                    for name, _ in (
                        *root.get_submodule(str(node.target)).named_parameters(),
                        *root.get_submodule(str(node.target)).named_buffers(),
                    )
                ]
                if not names or any(name in shared for name in names):
                    found[str(node.target)] = None
            elif node.meta["op"] == "batch_norm" and not member.own.issuperset(_read(node)) and node in computed:
                found[node.meta["path"] or node.name] = None
    return tuple(found)


def _read(node: fx.Node) -> set[str]:
    return {str(source.target) for source in node.all_input_nodes if source.op == "get_attr"}
