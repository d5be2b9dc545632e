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
_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
_FLATTEN, _UNFLATTEN = torch.ops.aten.flatten.using_ints, torch.ops.aten.unflatten.int
_UNSQUEEZE, _SQUEEZE = torch.ops.aten.unsqueeze.default, torch.ops.aten.squeeze.dim
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


def rewrite_for_onnx(program: ExportedProgram) -> None:
    """Write what the exporter gets wrong with operators that it gets right.

    Attention over another number of axes than four becomes one over four. 3-d convs without a bias become ``aten.convolution``, since
    ``aten.conv3d`` is given a bias of two axes.
    """
    graph = program.graph_module.graph
    for node in graph.find_nodes(op="call_function", target=_ATTENTION):
        _attend_over_four_axes(program, node)
    for node in graph.find_nodes(op="call_function", target=_CONV_3D):
        if len(node.args) < 3 or node.args[2] is None:
            _exchange(program, node, _parts(node, _convolution, {}))
    program.graph_module.recompile()


def _attend_over_four_axes(program: ExportedProgram, node: fx.Node) -> None:
    """Join the axes between the first and the last two into one: what is attended to is the same at every place along them."""
    shapes = [one.meta["val"].shape for one in node.args[:3] if isinstance(one, fx.Node)]
    middle = shapes[0][1:-2]
    if len(shapes[0]) == 4 or any(shape[:-2] != shapes[0][:-2] for shape in shapes) or not all(type(size) is int for size in middle):
        return
    mode = node.meta["val"].fake_mode

    def call(operator: OpOverload, *args: Any) -> fx.Node:
        made = node.graph.call_function(operator, args)
        with mode:
            made.meta = {**node.meta, "val": operator(*fx.node.map_arg(args, lambda one: one.meta["val"]))}
        return made

    def joined(one: fx.Node) -> fx.Node:
        return call(_FLATTEN, one, 1, len(middle)) if middle else call(_UNSQUEEZE, one, 1)

    def of_the_mask(one: fx.Node) -> fx.Node:
        for _ in range(len(shapes[0]) - one.meta["val"].dim()):
            one = call(_UNSQUEEZE, one, 0)
        return joined(call(torch.ops.aten.expand.default, one, [-1, *middle, -1, -1]))

    with node.graph.inserting_before(node):
        given = dict(node.kwargs) | dict(zip((argument.name for argument in _ATTENTION._schema.arguments[3:]), node.args[3:], strict=False))
        mask: Any = given.pop("attn_mask", None)
        if isinstance(mask, fx.Node) and mask.meta["val"].dim() > 2:
            mask = of_the_mask(mask)
        attended = call(_ATTENTION, *(joined(one) for one in node.args[:3] if isinstance(one, fx.Node)), mask)
        attended.kwargs = given
        parted = call(_UNFLATTEN, attended, 1, list(middle)) if middle else call(_SQUEEZE, attended, 1)
    _replace(program, node, parted)
    node.graph.erase_node(node)


def _convolution(
    x: Tensor, weight: Tensor, bias: None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    sizes = ([size] * 3 if isinstance(size, int) else list(size) for size in (stride, padding, dilation))
    found: Tensor = torch.ops.aten.convolution.default(x, weight, bias, *sizes, False, [0, 0, 0], groups)
    return found


def _decomposed(
    program: ExportedProgram, traced: Callable[..., ExportedProgram], table: Mapping[Any, Callable[..., Any]], **options: Any
) -> ExportedProgram:
    graph = program.graph_module.graph
    if options or any(_needs_tracing(node) for node in graph.nodes):
        read_contiguous(program)
        return traced(table, **options)
    for node in list(graph.nodes):
        if isinstance(node.target, OpOverload) and (node.target in table or _is_composite_view(node.target) or _is_of_evaluation(node)):
            parts = _parts(node, _of_evaluation if node.target is _BATCH_NORM else node.target, table)
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


def _of_evaluation(*args: Any) -> Tensor:
    tensors, (_, momentum, eps, _) = args[:5], args[5:]
    found: Tensor = torch.ops.aten._native_batch_norm_legit_no_training(*tensors, momentum, eps)[0]
    return found


def _parts(node: fx.Node, function: Callable[..., Any], table: Mapping[Any, Callable[..., Any]]) -> fx.Graph:
    """The graph of a function of a node's arguments, from its inputs in the order of ``node.all_input_nodes``."""
    inputs = node.all_input_nodes
    values = [one.meta["val"] for one in inputs]

    def run(*given: Any) -> Any:
        own = dict(zip(inputs, given, strict=True))
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), own.__getitem__)
        return function(*args, **kwargs)

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
