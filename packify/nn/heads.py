"""A new head for every member: a last layer with another number of outputs, which transfer learning needs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from packify.core import nested
from packify.core.errors import PackError
from packify.core.spec import whole_number
from packify.nn.tree import state_sizes
from packify.nn.wrappers import unwrapped

if TYPE_CHECKING:
    from packify.nn.packed_network import PackedNetwork

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def resize_layer(packed: PackedNetwork, name: str, size: int, seed: int) -> None:
    """Give a layer of a packed network, and of its members, `size` output features per member, drawn anew.

    Raises:
        PackError: there is no such layer, it is none with output features of its own, or what reads it needs the size it had.
    """
    size = whole_number("size", size)
    layer, alone = (_layer_of(network, name) for network in (packed, packed.member_template))
    before = dict(alone._parameters)
    _set(alone, size, None)
    try:
        changed = [_refreshed(graph, packed.member_template.body, name) for graph in _graphs(packed.member_template)]
    except PackError:
        alone._parameters.update(before)
        raise
    _set(layer, packed.num_estimators * size, torch.Generator().manual_seed(seed))
    for module in (layer, alone):
        state_sizes(module, getattr(module, "groups", None) if isinstance(module, nn.modules.conv._ConvNd) else None)
    new = {id(old): value for values in changed for old, value in values}
    for graph in (*_graphs(packed.member_template), *_graphs(packed)):
        for node in graph.nodes:
            node.meta["val"] = nested.map_leaves(node.meta.get("val"), lambda leaf: new.get(id(leaf), leaf))
    for network in (packed.member_template, packed):
        network.recompile()
    _tell(packed, name, size)


def _layer_of(network: Any, name: str) -> nn.Module:
    wrapped = next((part for part in network.body.modules() if unwrapped(part) is not part), None)
    if wrapped is not None:
        raise _refused(
            name, f"a {type(wrapped).__name__} around a part", "heads are made before parts are wrapped", "resize first, then wrap"
        )
    try:
        layer: nn.Module = network.body.get_submodule(name)
    except AttributeError:
        raise _refused(name, "no such part", "a head is named by its dotted name", 'packed.resize("fc", 37)') from None
    if not isinstance(layer, _LAYERS):
        why = "only a linear layer or a conv has output features"
        raise _refused(name, f"a {type(layer).__name__}", why, "resize the layer whose output features they are")
    names = [other for other, tensor in network.named_parameters(remove_duplicate=False) if tensor is layer.weight]
    if names != [f"{name}.weight"]:
        raise _refused(
            name, f"a weight that is also {', '.join(names)}", "it would change there too", "resize a layer with a weight of its own"
        )
    return layer


def _graphs(network: Any) -> Iterable[fx.Graph]:
    return {id(graph): graph for graph in network.graphs.values()}.values()


def _set(layer: nn.Module, rows: int, generator: torch.Generator | None) -> None:
    """New parameters with another number of rows, drawn as torch draws those of a new layer."""
    bound = 1 / math.sqrt(max(1, math.prod(layer.get_parameter("weight").shape[1:])))
    for key, old in layer._parameters.items():
        if old is None:
            continue
        tensor = torch.empty((rows, *old.shape[1:]), dtype=torch.float32 if generator else old.dtype, device="cpu" if generator else "meta")
        if generator is not None:
            tensor = tensor.uniform_(-bound, bound, generator=generator).to(old.device, old.dtype)
        layer._parameters[key] = nn.Parameter(tensor, requires_grad=old.requires_grad)


def _refreshed(graph: fx.Graph, body: nn.Module, name: str) -> list[tuple[Tensor, Tensor]]:
    """Every tensor of a member's graph that depends on the layer, before and with its new size."""
    run = fx.Interpreter(body, graph=graph)
    values: dict[fx.Node, Any] = {}
    found: list[tuple[Tensor, Tensor]] = []
    for node in graph.nodes:
        if node.op == "get_attr" and str(node.target).rpartition(".")[0] == name:
            value: Any = body.get_parameter(str(node.target)).detach()
        elif node.op in ("placeholder", "get_attr", "output") or not any(source in values for source in node.all_input_nodes):
            continue
        else:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda source: values.get(source, source.meta["val"]))
            try:
                with torch.no_grad():
                    value = getattr(run, node.op)(node.target, args, kwargs)
            except Exception as error:
                where = f"{node.meta['op']} in {node.meta['path'] or 'forward'} ({node.meta['source']})"
                raise _refused(
                    name, f"{where}: {error}", "what reads this layer needs the size that it has", "resize the last layer"
                ) from error
        values[node] = value
        olds, news = (list(nested.leaves(part)) for part in (node.meta["val"], value))
        found += [(old, new) for old, new in zip(olds, news, strict=False) if isinstance(old, Tensor) and isinstance(new, Tensor)]
    return found


def _tell(packed: PackedNetwork, name: str, size: int) -> None:
    """The report and the network know of the new size."""
    packed.__dict__["resized"] = {**packed.resized, name: size}
    report = packed.report
    report.layers = [replace(layer, reference_out=size, member_out=size) if layer.name == name else layer for layer in report.layers]
    report.member_params = sum(parameter.numel() for parameter in packed.member_template.parameters())
    report.packed_params = sum(parameter.numel() for parameter in packed.parameters())


def _refused(name: str, found: str, why: str, fix: str) -> PackError:
    return PackError(f"resize({name!r})", found=found, why=why, fix=fix)
