"""A deployed network as a program of torch.export: aten operators alone, any batch size where the network takes any."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import Dim, ExportedProgram

from packify.core.errors import ExportError
from packify.exporting.deployment import Deployment
from packify.exporting.diagnosis import place_of_failure

_LARGEST_BATCH = 2**16
_NAMESPACES = frozenset(("aten", "prims", "higher_order"))


def program_of(deployment: Deployment, inputs: Sequence[Tensor], dynamic: bool, free: bool = False) -> ExportedProgram:
    """The program; its inputs are called ``input0``, ``input1`` ..., its outputs are a dict.

    Args:
        deployment: what is exported.
        inputs: tensors to trace with, all of one batch size on their leading axis, 2 or more where it is dynamic.
        dynamic: any batch size, or that of `inputs` alone.
        free: any height and width of images ``"b c h w"``, or those of `inputs` alone.

    Raises:
        ExportError: the network cannot be traced, or only for one batch size; the error names the node and the user's line.
    """
    batch = Dim("batch", min=1, max=_LARGEST_BATCH)
    shapes: dict[str, Any] = {name: {0: batch} if dynamic else {} for name in deployment.input_names}
    for name, tensor in zip(deployment.input_names, inputs, strict=True):
        if free and tensor.dim() == 4:
            shapes[name] |= {2: Dim.AUTO, 3: Dim.AUTO}
    try:
        with torch.no_grad():
            program = torch.export.export(
                deployment, tuple(inputs), dynamic_shapes={name: axes or None for name, axes in shapes.items()}, strict=False
            )
    except Exception as error:
        message = " ".join(str(error).split())
        if dynamic and ("onstraint" in message or "pecializ" in message or "batch" in message):
            raise ExportError(
                "batch",
                found=message[:400],
                why="somewhere the network's code computes with the batch size in a way that fixes it",
                fix="export for one batch size: --batch 1 (batch=1)",
            ) from error
        raise ExportError(
            place_of_failure(deployment, inputs) or "the network",
            found=f"{type(error).__name__}: {message}"[:400],
            why="torch.export cannot trace what the network does there",
            fix="exchange that part of the network for one that torch.export knows",
        ) from error
    if free:
        _check_free(program, deployment.input_names)
    return program


def _check_free(program: ExportedProgram, names: Sequence[str]) -> None:
    taken = {node.name: node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder" and node.name in names}
    if not any(type(size) is not int for shape in taken.values() if len(shape) == 4 for size in shape[2:]):
        raise ExportError(
            "resolution",
            found=", ".join(f"{name} of {tuple(map(str, shape))}" for name, shape in taken.items()),
            why="the network's code fixes the height and width of its inputs, or it takes no images",
            fix="export for this resolution: leave out --resolution dynamic (resolution='fixed')",
        )


def foreign_operators(program: ExportedProgram) -> list[str]:
    """Operators that are not torch's own, ``torchvision::deform_conv2d``: what loads the file must have imported their library."""
    found: dict[str, None] = {}
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
            namespace = getattr(node.target, "namespace", "aten") if node.op == "call_function" else "aten"
            if namespace not in _NAMESPACES:
                found[str(node.target)] = None
    return list(found)


_VIEWS = frozenset(
    (
        torch.ops.aten.unflatten.int,
        torch.ops.aten.flatten.using_ints,
        torch.ops.aten.view.default,
        torch.ops.aten.reshape.default,
        torch.ops.aten._unsafe_view.default,
        torch.ops.aten.unsqueeze.default,
        torch.ops.aten.squeeze.dim,
    )
)


def tidy(program: ExportedProgram) -> int:
    """Make a program's graph smaller without changing what it computes, and say how many nodes went.

    Every view becomes a reshape to constant sizes (one of them -1 where the batch size is in it), reshapes that follow each other become
    one, and the arithmetic of sizes that nobody reads any more goes. A graph that writes through views stays as it is.
    """
    graph = program.graph_module.graph
    nodes = list(graph.nodes)
    if any(_writes_through_view(node) for node in nodes):
        return 0
    for node in nodes:
        if node.op == "call_function" and node.target in _VIEWS:
            _constant_reshape(node)
    for node in nodes:
        while _is_reshape(node) and _is_reshape(node.args[0]):
            before: Any = node.args[0]
            node.args = (before.args[0], node.args[1])
    for node in reversed(nodes):
        if not node.users and node.op == "call_function" and (_is_reshape(node) or _is_of_sizes(node)):
            graph.erase_node(node)
    program.graph_module.recompile()
    return len(nodes) - len(graph.nodes)


_GIVE_CONTIGUOUS = frozenset(
    (
        torch.ops.aten.reshape.default,
        torch.ops.aten.linear.default,
        torch.ops.aten.bmm.default,
        torch.ops.aten.baddbmm.default,
        torch.ops.aten.layer_norm.default,
        torch.ops.aten.clone.default,
        torch.ops.aten.contiguous.default,
    )
)


def read_contiguous(program: ExportedProgram) -> None:
    """Copy what may lie scattered before it is reshaped, which in a file is no operation.

    Without it, where the batch size is unknown, torch takes the reshape for a view, and then refuses the view: when an exporter takes an
    attention kernel apart, its strides are others.
    """
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        source: Any = node.args[0] if _is_reshape(node) else None
        if not isinstance(source, fx.Node) or source.target in _GIVE_CONTIGUOUS:
            continue
        with graph.inserting_before(node):
            copy = graph.call_function(torch.ops.aten.clone.default, (source,), {"memory_format": torch.contiguous_format})
        copy.meta = dict(source.meta)
        node.args = (copy, *node.args[1:])
    program.graph_module.recompile()


def _constant_reshape(node: fx.Node) -> None:
    value: Any = node.meta.get("val")
    if not isinstance(value, Tensor):
        return
    sizes: list[Any] = [size if type(size) is int else -1 for size in value.shape]
    if sizes.count(-1) > 1 or (-1 in sizes and 0 in sizes):
        return
    node.target, node.args, node.kwargs = torch.ops.aten.reshape.default, (node.args[0], sizes), {}


def _is_reshape(node: Any) -> bool:
    if not isinstance(node, fx.Node) or node.target is not torch.ops.aten.reshape.default:
        return False
    sizes: Any = node.args[1]
    return all(type(size) is int for size in sizes)


def _is_of_sizes(node: fx.Node) -> bool:
    if node.target in (torch.ops.aten.sym_size.int, operator.mul, operator.add, operator.sub, operator.floordiv):
        return True
    return node.target in (
        torch.ops.aten._assert_scalar.default,
        torch.ops.aten.sym_constrain_range_for_size.default,
        operator.ge,
        operator.le,
    )


def _writes_through_view(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return False
    written = node.args[0] if node.args else None
    return not isinstance(written, fx.Node) or written.target in _VIEWS or any(user.target in _VIEWS for user in written.users)
