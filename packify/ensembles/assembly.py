"""The packed network of a member: its module tree, its graphs, how it averages, its report."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from packify.capture.functionalise import stored_in
from packify.core import nested
from packify.core.errors import SpecError
from packify.core.graph_check import graph_checks
from packify.ensembles.averages import averages_of
from packify.ensembles.report_notes import report_of
from packify.nn.graph_network import Interface, MemberNetwork
from packify.nn.layers import pack_layer
from packify.nn.packed_network import PackedNetwork
from packify.nn.tree import build_tree, leaf_names, sized_tree
from packify.packing.layout_check import check_layouts
from packify.packing.packer import pack_graph
from packify.widths.slimming import Member


def assemble(
    member: Member, example_inputs: Any, model: nn.Module, *, inputs: str, average: Any, rules: Mapping[Any, Any]
) -> PackedNetwork:
    """The packed network of a member, its tensors allocated where the reference's are and not yet filled."""
    _require_known(inputs)
    recorded, members = member.recorded, member.spec.num_estimators
    written = {name for graph in member.graphs.values() for name in stored_in(graph)}
    root = _allocated(member, model, written)
    graphs = {
        id(graph): pack_graph(graph, root, members, rules, independent=inputs == "independent", written=written)
        for graph in member.graphs.values()
    }
    _pack_layers(root, member, set.intersection(*(graph.ungrouped for graph in graphs.values())))
    alone = sized_tree(member.root, lambda _, tensor: tensor, recorded.leaves)  # other configurations share the member
    for tree in (root, alone):
        _add_constants(tree, member, torch.device("meta") if tree is alone else _first_device(model))
        _match_modes(tree, model)
    if graph_checks.get():
        for packed_graph in graphs.values():
            check_layouts(packed_graph.graph, root, members)
    interface = Interface(recorded.signature, recorded.input_template, recorded.outputs)
    averages = averages_of(member, model, average, rules)
    unused = recorded.unused if member.spec.unused == "drop" else frozenset()
    report = report_of(member, model, graphs, averages.by_mode, recorded)
    report.averaging = averages.notes
    packed = PackedNetwork(
        root,
        {mode: graphs[id(graph)].graph for mode, graph in member.graphs.items()},
        MemberNetwork(alone, member.graphs, interface, unused),
        interface,
        spec=member.spec,
        report=report,
        average=averages.by_mode,
        inputs=inputs,
        example_inputs=_shapes_only(example_inputs),
        batched=recorded.any_batch,
        leaves=recorded.leaves,
        output_choices=recorded.output_choices,
        unused=unused,
    )
    packed.report.packed_params = sum(parameter.numel() for parameter in packed.parameters())
    return packed


def _require_known(inputs: str) -> None:
    if inputs not in ("shared", "independent"):
        raise SpecError(
            "inputs",
            found=repr(inputs),
            why="members see one shared batch or independent ones",
            fix='pass inputs="shared" or inputs="independent"',
        )


def _allocated(member: Member, model: nn.Module, written: Collection[str]) -> nn.Module:
    """The packed module tree: M times the member's tensors, each where the reference's is.

    Args:
        written: buffers that forward writes to; a single number among them is one per member.
    """
    members = member.spec.num_estimators
    tensors = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    devices = {name: tensor.device for name, tensor in tensors}

    def allocate(name: str, tensor: Tensor) -> Tensor:
        counted = isinstance(tensor, nn.Parameter) or tensor.dim() or name in written
        shape = (members * tensor.shape[0], *tensor.shape[1:]) if tensor.dim() else (members,) if counted else ()
        return torch.empty(shape, dtype=tensor.dtype, device=devices.get(name, "cpu"))

    return build_tree(member.root, allocate, member.recorded.leaves)


def _pack_layers(root: nn.Module, member: Member, ungrouped: Collection[str]) -> None:
    """Let every layer that is not kept whole tell its packed sizes; `ungrouped` weights read the shared input."""
    widths = {name: module.in_features for name, module in member.root.named_modules() if isinstance(module, nn.Linear)}
    gammas = {layer.name: layer.gamma for layer in member.layers}
    whole = leaf_names(root, member.recorded.leaves)
    for name, module in root.named_modules():
        if name not in whole:
            width = widths.get(name, 0) * gammas.get(name, 1)
            pack_layer(module, member.spec.num_estimators, width=width, shared_input=f"{name}.weight" in ungrouped)


def _add_constants(tree: nn.Module, member: Member, device: torch.device) -> None:
    for name, constant in member.constants.items():
        tree.register_buffer(name, constant.detach().to(device), persistent=False)


def _first_device(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def _match_modes(tree: nn.Module, model: nn.Module) -> None:
    modes = {name: module.training for name, module in model.named_modules(remove_duplicate=False)}
    for name, module in tree.named_modules():
        module.training = modes.get(name, model.training)


def _shapes_only(example_inputs: Any) -> Any:
    def shape(leaf: Any) -> Any:
        return torch.empty_like(leaf, device="meta") if isinstance(leaf, Tensor) else leaf

    return nested.map_leaves(example_inputs, shape, in_dataclasses=True)
