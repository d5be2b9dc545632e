"""The recording of a network that there is something to pack in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, fx, nn

from packify.errors import PackError, SpecError, TraceError
from packify.tracing import Traced, trace
from packify.widths.gamma import LAYERS


def recorded(model: nn.Module, example_inputs: Any, leaves: Any) -> Traced:
    """The recording of a model that there is something to pack in.

    Raises:
        SpecError: `leaves` are no module types.
        PackError: the model has no tensors.
        TraceError: it cannot be recorded, or returns none.
    """
    kinds = (leaves,) if isinstance(leaves, type) else tuple(leaves) if isinstance(leaves, Iterable) else (None,)
    if not all(isinstance(kind, type) and issubclass(kind, nn.Module) for kind in kinds):
        raise SpecError("leaves", found=repr(leaves)[:200], why="types of modules are kept whole", fix="pass leaves=[type(model.part)]")
    if not any(True for _ in (*model.parameters(), *model.buffers())):
        raise PackError(
            type(model).__name__,
            found="no parameters and no buffers",
            why="members differ in their weights, so there is nothing to pack",
            fix="pass a network with layers",
        )
    traced = trace(model, example_inputs, leaves=kinds)
    (output,) = traced.graphs["eval"].find_nodes(op="output")
    if not any(isinstance(leaf, fx.Node) and isinstance(leaf.meta["val"], Tensor) and leaf.meta["val"].numel() for leaf in output.args[0]):
        raise TraceError(
            type(model).__name__,
            found="no tensor with elements among the outputs",
            why="an ensemble is the average of tensors",
            fix="let forward return what it computes",
        )
    _one_dtype(traced)
    return traced


def _one_dtype(traced: Traced) -> None:
    """Without data a layer takes any input; with data it refuses one of another dtype than its weight's.

    Raises:
        TraceError: a layer meets two dtypes.
    """
    for node in traced.graphs["eval"].nodes:
        if node.meta.get("op") not in LAYERS or not all(isinstance(argument, fx.Node) for argument in node.args[:2]):
            continue
        read, weight = (argument.meta["val"].dtype for argument in node.args[:2])
        if read != weight and node.args[1].op == "get_attr" and read in traced.input_dtypes:
            raise TraceError(
                f"{node.meta['path'] or 'forward'} ({node.meta['source']})",
                found=f"an input of dtype {read} and a weight of dtype {weight}",
                why="a layer takes both in one dtype",
                fix=f"pass example_inputs of dtype {weight}" + (f", or model.to({read})" if read.is_floating_point else ""),
            )
