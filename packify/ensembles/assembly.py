"""The packed network of a member: its module tree, its graphs, how it averages, its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from packify.core import nested
from packify.ensembles.averages import averages_of
from packify.ensembles.repacking import RuleBook, check_forms, packed_form
from packify.ensembles.report_notes import report_of
from packify.execution.formats import settle_format
from packify.execution.running import Execution
from packify.nn.graph_network import Interface, MemberNetwork
from packify.nn.packed_network import PackedNetwork
from packify.nn.tree import add_constants, sized_tree
from packify.ops.rule import Rule
from packify.packing.nesting import Nest
from packify.widths.slimming import Member


def assemble(
    member: Member, example_inputs: Any, model: nn.Module, *, inputs: str, average: Any, rules: Mapping[Any, Rule]
) -> PackedNetwork:
    """The packed network of a member, its tensors allocated where the reference's are and not yet filled.

    Args:
        member: what slimming gave.
        example_inputs: what the reference was recorded with.
        model: the reference.
        inputs: ``"shared"`` or ``"independent"``.
        average: how outputs are averaged, as the user says.
        rules: the user's own operator rules.
    """
    recorded, book = member.recorded, RuleBook(rules)
    table = book.table
    tensors = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    devices = {name: tensor.device for name, tensor in tensors}
    root, graphs = packed_form(
        member.root,
        member.graphs,
        member.spec.num_estimators,
        member.layers,
        leaves=recorded.leaves,
        table=table,
        device_of=lambda name: devices.get(name, torch.device("cpu")),
    )
    alone = sized_tree(member.root, lambda _, tensor: tensor, recorded.leaves)  # other configurations share the member
    for tree in (root, alone):
        add_constants(tree, member.constants, torch.device("meta") if tree is alone else first_device(model))
        match_modes(tree, model)
    check_forms(graphs.values(), root, member.spec.num_estimators)
    interface = Interface(recorded.signature, recorded.input_template, recorded.outputs)
    averages = averages_of(recorded, member.graphs, model, average, table)
    unused = recorded.unused if member.spec.unused == "drop" else frozenset()
    report = report_of(member, model, {id(graph): graph for graph in graphs.values()}, averages.by_mode, recorded)
    report.averaging = averages.notes
    cut = Nest(recorded.calls, member.spec.num_estimators)
    packed = PackedNetwork(
        root,
        {mode: graph.graph for mode, graph in graphs.items()},
        MemberNetwork(alone, member.graphs, interface, unused, Nest(recorded.calls, 1)),
        interface,
        spec=member.spec,
        report=report,
        average=averages.by_mode,
        inputs=inputs,
        example_inputs=shapes_only(example_inputs),
        batched=recorded.any_batch,
        repacker=book,
        leaves=recorded.leaves,
        cut=cut,
        output_choices=recorded.output_choices,
        unused=unused,
        executor=Execution(),
    )
    packed.report.notes += cut.notes
    note = settle_format(packed, model)
    packed.report.formats = [note] if note is not None else []
    packed.report.packed_params = sum(parameter.numel() for parameter in packed.parameters())
    return packed


def first_device(model: nn.Module) -> torch.device:
    """Where the first tensor of a network lies."""
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def match_modes(tree: nn.Module, model: nn.Module) -> None:
    """Every part in the mode, train or eval, that the reference's is in."""
    modes = {name: module.training for name, module in model.named_modules(remove_duplicate=False)}
    for name, module in tree.named_modules():
        module.training = modes.get(name, model.training)


def shapes_only(example_inputs: Any) -> Any:
    """Example inputs with meta tensors."""

    def shape(leaf: Any) -> Any:
        return torch.empty_like(leaf, device="meta") if isinstance(leaf, Tensor) else leaf

    return nested.map_leaves(example_inputs, shape, in_dataclasses=True)
