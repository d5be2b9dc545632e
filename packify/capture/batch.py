"""A graph that holds for every batch size: numbers that the code took from the batch are told from constants by recording again."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from packify.capture.recorder import Recorder
from packify.capture.values import leaves, mapped
from packify.core.errors import TraceError

# A batch of this size is unlikely to equal a width, a head count or a token count, so axes are told apart by their sizes.
TRACING_BATCH = 5
# Other sizes, the first to find numbers that follow the batch, the second to confirm how.
OTHER_BATCHES = (7, 3)


@dataclass(frozen=True)
class _OfBatch:
    """The number ``times * batch + plus``."""

    times: int
    plus: int


class _Unlike(Exception):
    """Recordings with other batch sizes have another structure here."""


def free_of_batch(run: Recorder, size: int, record: Callable[[int], Recorder]) -> bool:
    """Whether the network takes other batch sizes; if so, numbers of the recording that are multiples of it follow the batch.

    A constant more than a multiple is right too.

    Args:
        run: recorded with batches of `size`; its graph is changed in place.
        size: a batch size.
        record: records the same network with another one.

    Raises:
        TraceError: the graph holds for one batch size only.
    """
    other_size = next(batch for batch in OTHER_BATCHES if batch != size)
    try:
        other = record(other_size)
    except TraceError:
        return False
    now = run
    if not _alike(run, other):
        again = record(size)
        now = run if _alike(run, again) else again  # what the code caches, it has cached by now
    if _alike(now, other):
        _require_same_constants(now, other)
        return True
    runs = {size: now, other_size: other}
    for batch in OTHER_BATCHES:
        if batch not in runs:
            runs[batch] = record(batch)
    _let_numbers_follow(run.graph if now is run else None, {batch: found.graph for batch, found in runs.items()}, size)
    return True


def _let_numbers_follow(graph: fx.Graph | None, graphs: Mapping[int, fx.Graph], size: int) -> None:
    orders = {batch: {node: index for index, node in enumerate(found.nodes)} for batch, found in graphs.items()}
    for nodes in list(zip(*(found.nodes for found in graphs.values()), strict=False)):
        if len({(node.op, str(node.target)) for node in nodes}) > 1:
            raise _holds_for_one_batch(*nodes)
        try:
            args, kwargs = _agreed({batch: (node.args, node.kwargs) for batch, node in zip(graphs, nodes, strict=True)}, orders)
        except _Unlike:
            raise _holds_for_one_batch(*nodes) from None
        if any(isinstance(leaf, _OfBatch) for leaf in leaves((args, kwargs))):
            if graph is None:
                raise _holds_for_one_batch(*nodes)
            with graph.inserting_before(next(node for node in graph.nodes if node.op != "placeholder")):
                nodes[0].args, nodes[0].kwargs = mapped((args, kwargs), functools.partial(_written, graph=graph, size=size))
    first, second, *_ = graphs.values()
    if len(orders[size]) != len(second.nodes):
        raise _holds_for_one_batch(next(reversed(first.nodes)), next(reversed(second.nodes)))


def _alike(first: Recorder, second: Recorder) -> bool:
    return signature_of(first.graph) == signature_of(second.graph)


def signature_of(graph: fx.Graph) -> list[Any]:
    """What two recordings are compared by."""
    order = {node: index for index, node in enumerate(graph.nodes)}
    return [(node.op, str(node.target), str(fx.node.map_arg((node.args, node.kwargs), lambda n: f"%{order[n]}"))) for node in graph.nodes]


def _agreed(values: Mapping[int, Any], orders: Mapping[int, Mapping[fx.Node, int]]) -> Any:
    """One value for what several recordings hold in one place, by batch size."""
    (first_batch, first), (second_batch, second), *rest = values.items()
    if isinstance(first, fx.Node):
        if len({orders[batch].get(value) for batch, value in values.items()}) > 1:
            raise _Unlike
        return first
    if len({type(value) for value in values.values()}) > 1:
        raise _Unlike
    if isinstance(first, (tuple, list)):
        if len({len(value) for value in values.values()}) > 1:
            raise _Unlike
        items = [_agreed({batch: value[index] for batch, value in values.items()}, orders) for index in range(len(first))]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    if isinstance(first, dict):
        if len({tuple(value) for value in values.values()}) > 1:
            raise _Unlike
        return {key: _agreed({batch: value[key] for batch, value in values.items()}, orders) for key in first}
    if isinstance(first, slice):
        parts = {batch: (value.start, value.stop, value.step) for batch, value in values.items()}
        return slice(*_agreed(parts, orders))
    if type(first) is int:
        times, left = divmod(second - first, second_batch - first_batch)
        plus = first - times * first_batch
        if left or any(value != times * batch + plus for batch, value in rest):
            raise _Unlike
        return first if not times else _OfBatch(times, plus)
    if len({str(value) for value in values.values()}) > 1:
        raise _Unlike
    return first


def _written(value: Any, graph: fx.Graph, size: int) -> Any:
    """A number of the batch as nodes; any other value as it is."""
    if not isinstance(value, _OfBatch):
        return value
    number = _number(graph.call_method("size", (next(iter(graph.nodes)), 0)), size, "size")
    for function, operand in ((operator.mul, value.times), (operator.add, value.plus)):
        if operand != (function is operator.mul):
            number = _number(graph.call_function(function, (number, operand)), function(number.meta["val"], operand), function.__name__)
    return number


def _number(node: fx.Node, value: int, name: str) -> fx.Node:
    node.meta.update(val=value, op=name, path="", source="", inplace=False)
    return node


def _require_same_constants(run: Recorder, other: Recorder) -> None:
    for name, tensor in run.constants.items():
        now = other.constants[name]
        if tensor.is_meta or (tensor.shape == now.shape and torch.equal(tensor, now)):
            continue
        (node,) = (node for node in run.graph.find_nodes(op="get_attr") if node.target == name)
        raise TraceError(
            f"{node.meta['source']}, in {node.meta['path'] or 'forward'}",
            found=f"with another batch size a tensor that the code makes is {tuple(now.shape)} {now.flatten()[:3].tolist()} "
            f"where it was {tuple(tensor.shape)} {tensor.flatten()[:3].tolist()}",
            why=_ONE_BATCH,
            fix=_FREE,
        )


_ONE_BATCH = (
    "the code turns the batch size into a plain number (a loop over the batch, a tensor of sizes), "
    "so a graph would hold for one batch size only"
)
_FREE = "use x.shape[0] or x.size(0) itself and operators over the whole batch, or keep the module whole: leaves=[ItsType]"


def _holds_for_one_batch(node: fx.Node, *others: fx.Node) -> TraceError:
    other = next((other for other in others if _call(other) != _call(node)), others[0])
    return TraceError(
        f"{node.meta['source']}, in {node.meta['path'] or 'forward'}",
        found=f"with another batch size the code runs {_call(other)} where it ran {_call(node)}",
        why=_ONE_BATCH,
        fix=_FREE,
    )


def _call(node: fx.Node) -> str:
    return f"{node.meta['op']}{fx.node.map_arg(node.args, str)}"
