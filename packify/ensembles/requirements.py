"""What a recorded network must have for there to be something to pack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from packify.capture.graphs import RecordedGraphs
from packify.capture.operators import traits_of
from packify.core.errors import PackError, TraceError
from packify.widths.weights import argument


def require_packable(model: nn.Module, recorded: RecordedGraphs, rules: Mapping[Any, Any]) -> None:
    """Refuse a network in which there is nothing to pack.

    Raises:
        PackError: the model has no tensors.
        TraceError: it returns none, or a layer meets two dtypes.
    """
    if not any(True for _ in (*model.parameters(), *model.buffers())):
        raise PackError(
            type(model).__name__,
            found="no parameters and no buffers",
            why="members differ in their weights, so there is nothing to pack",
            fix="pass a network with layers",
        )
    (output,) = recorded.graphs["eval"].find_nodes(op="output")
    if not any(isinstance(leaf, fx.Node) and isinstance(leaf.meta["val"], Tensor) and leaf.meta["val"].numel() for leaf in output.args[0]):
        raise TraceError(
            type(model).__name__,
            found="no tensor with elements among the outputs",
            why="an ensemble is the average of tensors",
            fix="let forward return what it computes",
        )
    _one_dtype(recorded, rules)


def _one_dtype(recorded: RecordedGraphs, rules: Mapping[Any, Any]) -> None:
    """Without data a layer takes any input; with data it refuses one of another dtype than its weight's.

    Raises:
        TraceError: a layer meets two dtypes.
    """
    for node in recorded.graphs["eval"].nodes:
        if "layer" not in traits_of(rules, node):
            continue
        data, parameter = argument(node, "input"), argument(node, "weight")
        if not isinstance(data, fx.Node) or not isinstance(parameter, fx.Node):
            continue
        read, weight = data.meta["val"].dtype, parameter.meta["val"].dtype
        if read != weight and parameter.op == "get_attr" and read in recorded.input_dtypes:
            raise TraceError(
                f"{node.meta['path'] or 'forward'} ({node.meta['source']})",
                found=f"an input of dtype {read} and a weight of dtype {weight}",
                why="a layer takes both in one dtype",
                fix=f"pass example_inputs of dtype {weight}" + (f", or model.to({read})" if read.is_floating_point else ""),
            )
