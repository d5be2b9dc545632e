"""Decompositions that an exporter asks for, at the nodes that have one: torch would trace the whole program a second time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx

from packify.core import nested
from packify.exporting.programs import read_contiguous

_KEY = "run_decompositions"
_RESHAPE = torch.ops.aten.reshape.default  # ONNX has it as it is, where what torch makes of it asks for strides
_CONV_3D = torch.ops.aten.conv3d.default
_BATCH_NORM = torch.ops.aten.batch_norm.default


def decompose_in_place(program: ExportedProgram) -> None:
    """Give a program a `run_decompositions` that exchanges the nodes that have a decomposition, and leaves the others as they are.

    The entropy of a prediction is the one operator of a vision transformer that ONNX knows only in parts: for it, torch runs the other
    800 nodes again, with an unknown batch size, in half of the time of the whole export. A program that writes into tensors, or that holds
    programs of its own (a branch on data), is run again as torch does.
    """
    program.__dict__[_KEY] = functools.partial(_decomposed, program, program.run_decompositions)


def decompose_by_tracing(program: ExportedProgram) -> None:
    """Undo `decompose_in_place`."""
    program.__dict__.pop(_KEY, None)
    read_contiguous(program)


def rename_convs(program: ExportedProgram) -> None:
    """Call 3-d convs without a bias ``aten.convolution``: the exporter gives ``aten.conv3d`` a bias of two axes."""
    for node in program.graph_module.graph.find_nodes(op="call_function", target=_CONV_3D):
        given = {argument.name: node.args[i] for i, argument in enumerate(_CONV_3D._schema.arguments) if i < len(node.args)} | node.kwargs
        if given.get("bias") is None:
            stride, padding, dilation = (given.get(name, default) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1)))
            sizes = ([one] * 3 if isinstance(one, int) else list(one) for one in (stride, padding, dilation))
            node.target = torch.ops.aten.convolution.default
            node.args = given["input"], given["weight"], None, *sizes, False, [0, 0, 0], given.get("groups", 1)
            node.kwargs = {}
    program.graph_module.recompile()


def _decomposed(
    program: ExportedProgram, traced: Callable[..., ExportedProgram], table: Mapping[Any, Callable[..., Any]], **options: Any
) -> ExportedProgram:
    graph = program.graph_module.graph
    if options or any(_needs_tracing(node) for node in graph.nodes):
        read_contiguous(program)
        return traced(table, **options)
    for node in list(graph.nodes):
        if isinstance(node.target, OpOverload) and (node.target in table or _is_composite_view(node.target) or _is_of_evaluation(node)):
            parts = _parts(node, table)
            if parts.find_nodes(op="get_attr"):  # a constant that the program would have to hold
                read_contiguous(program)
                return traced(table, **options)
            _exchange(program, node, parts)
    program.graph_module.recompile()
    return program


def _needs_tracing(node: fx.Node) -> bool:
    """Whether a node writes into a tensor, or runs a graph of its own."""
    if node.op == "get_attr":
        return True
    schema = getattr(node.target, "_schema", None)
    return schema.is_mutable if schema is not None else isinstance(node.target, torch._ops.HigherOrderOperator)


def _is_composite_view(operator: OpOverload) -> bool:
    """Whether torch itself takes an operator apart whatever a table says: ``movedim`` and ``to``, but not ``linear``, which is no view."""
    aliases = any(argument.alias_info is not None for argument in operator._schema.arguments)
    return (
        aliases
        and operator is not _RESHAPE
        and torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), "CompositeImplicitAutograd")
    )


def _is_of_evaluation(node: fx.Node) -> bool:
    """Whether a node is a batch norm with statistics that are given, which ONNX knows under another name."""
    return node.target is _BATCH_NORM and len(node.args) == 9 and node.args[5] is False and None not in node.args[3:5]


def _parts(node: fx.Node, table: Mapping[Any, Callable[..., Any]]) -> fx.Graph:
    """The graph that computes a node from its inputs, in the order of ``node.all_input_nodes``."""
    inputs = node.all_input_nodes
    values = [one.meta["val"] for one in inputs]

    def run(*given: Any) -> Any:
        own = dict(zip(inputs, given, strict=True))
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), own.__getitem__)
        if node.target is _BATCH_NORM:
            x, weight, bias, mean, variance, _, momentum, eps, _ = args
            return torch.ops.aten._native_batch_norm_legit_no_training(x, weight, bias, mean, variance, momentum, eps)[0]
        return node.target(*args, **kwargs)  # type: ignore[operator]  # an OpOverload

    tensors = [value for value in (*values, *nested.leaves(node.meta["val"])) if isinstance(value, Tensor)]
    mode: Any = tensors[0].fake_mode  # type: ignore[attr-defined]  # a program's tensors have no data
    with torch.no_grad(), mode:
        graph: fx.Graph = make_fx(run, decomposition_table=dict(table))(*values).graph
    return graph


def _exchange(program: ExportedProgram, node: fx.Node, parts: fx.Graph) -> None:
    """Put the nodes of a graph where a node is."""
    graph = node.graph
    copies: dict[fx.Node, Any] = dict(zip(parts.find_nodes(op="placeholder"), node.all_input_nodes, strict=True))
    with graph.inserting_before(node):
        for part in parts.nodes:
            if part.op not in ("placeholder", "output"):
                copies[part] = copied = graph.node_copy(part, copies.__getitem__)
                copied.meta = {**node.meta, **part.meta}  # of the same place in the network
    found: Any = fx.node.map_arg(parts.output_node().args[0], copies.__getitem__)
    if isinstance(found, fx.Node):
        _replace(program, node, found)
    else:
        for user in list(node.users):
            _replace(program, user, found[user.args[1]])
            graph.erase_node(user)
    graph.erase_node(node)


def _replace(program: ExportedProgram, node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    program.graph_signature.replace_all_uses(node.name, by.name)
