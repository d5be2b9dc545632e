"""The packed network of a member: its module tree, its graphs, how it averages, its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from packify.capture.functionalise import stored_in
from packify.core import nested
from packify.core.errors import SpecError
from packify.ensembles.averages import averages_of
from packify.ensembles.report_notes import report_of
from packify.nn.graph_network import Interface, MemberNetwork
from packify.nn.layers import pack_layer
from packify.nn.packed_network import PackedNetwork
from packify.nn.tree import build_tree, leaf_names
from packify.packing.packer import pack_graph
from packify.widths.slimming import Member


def assemble(
    member: Member, example_inputs: Any, model: nn.Module, *, inputs: str, average: Any, rules: Mapping[Any, Any]
) -> PackedNetwork:
    """The packed network of a member, its tensors allocated where the reference's are and not yet filled."""
    if inputs not in ("shared", "independent"):
        raise SpecError(
            "inputs",
            found=repr(inputs),
            why="members see one shared batch or independent ones",
            fix='pass inputs="shared" or inputs="independent"',
        )
    recorded, members = member.recorded, member.spec.num_estimators
    devices = {
        name: tensor.device
        for name, tensor in (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    }

    written = {name for graph in member.graphs.values() for name in stored_in(graph)}

    def allocate(name: str, tensor: Tensor) -> Tensor:
        counted = isinstance(tensor, nn.Parameter) or tensor.dim() or name in written
        shape = (members * tensor.shape[0], *tensor.shape[1:]) if tensor.dim() else (members,) if counted else ()
        return torch.empty(shape, dtype=tensor.dtype, device=devices.get(name, "cpu"))

    root = build_tree(member.root, allocate, recorded.leaves)
    widths = {name: module.in_features for name, module in member.root.named_modules() if isinstance(module, nn.Linear)}
    gammas = {layer.name: layer.gamma for layer in member.layers}
    graphs = {
        id(graph): pack_graph(graph, root, members, rules, independent=inputs == "independent", written=written)
        for graph in member.graphs.values()
    }
    ungrouped = set.intersection(*(graph.ungrouped for graph in graphs.values()))
    whole = leaf_names(root, recorded.leaves)
    for name, module in root.named_modules():
        if name not in whole:
            pack_layer(module, members, width=widths.get(name, 0) * gammas.get(name, 1), shared_input=f"{name}.weight" in ungrouped)
    where = next(iter(devices.values()), torch.device("cpu"))
    for tree in (root, member.root):
        for name, constant in member.constants.items():
            tree.register_buffer(name, constant.detach().to("meta" if tree is member.root else where), persistent=False)
    for tree in (root, member.root):
        _match_modes(tree, model)
    interface = Interface(recorded.signature, recorded.input_template, recorded.outputs)
    averages = averages_of(member, average)
    report = report_of(member, model, graphs, averages, recorded)
    packed = PackedNetwork(
        root,
        {mode: graphs[id(graph)].graph for mode, graph in member.graphs.items()},
        MemberNetwork(member.root, member.graphs, interface),
        interface,
        spec=member.spec,
        report=report,
        average=averages,
        inputs=inputs,
        example_inputs=_shapes_only(example_inputs),
        batched=recorded.any_batch,
        leaves=recorded.leaves,
    )
    report.packed_params = sum(parameter.numel() for parameter in packed.parameters())
    return packed


def _match_modes(tree: nn.Module, model: nn.Module) -> None:
    modes = {name: module.training for name, module in model.named_modules(remove_duplicate=False)}
    for name, module in tree.named_modules():
        module.training = modes.get(name, model.training)


def _shapes_only(example_inputs: Any) -> Any:
    return nested.map_leaves(example_inputs, lambda leaf: torch.empty_like(leaf, device="meta") if isinstance(leaf, Tensor) else leaf)
