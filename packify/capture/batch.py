"""A graph that holds for every batch size: numbers that the code took from the batch are told from constants by recording again."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from packify.capture.writer import GraphWriter
from packify.core import nested
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


def free_of_batch(run: GraphWriter, size: int, record: Callable[[int], GraphWriter]) -> bool:
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
    now = _settled(run, other, lambda: record(size))
    if _alike(now, other):
        _require_same_constants(now, other)
        return True
    runs = {size: now, other_size: other}
    for batch in OTHER_BATCHES:
        if batch not in runs:
            runs[batch] = record(batch)
    numbers = _Comparison({batch: found.graph for batch, found in runs.items()}).numbers_of_batch()
    if now is not run and numbers:
        raise _holds_for_one_batch(*next(iter(numbers)))
    _let_numbers_follow(run.graph, numbers, size)
    return True


def _settled(run: GraphWriter, other: GraphWriter, again: Callable[[], GraphWriter]) -> GraphWriter:
    """The recording itself, or a second one of the same batch size where the code has cached something in between."""
    if _alike(run, other):
        return run
    second = again()
    return run if _alike(run, second) else second


class _Comparison:
    """Recordings of one network, by batch size, node by node."""

    def __init__(self, graphs: Mapping[int, fx.Graph]) -> None:
        self.batches = list(graphs)
        self.graphs = list(graphs.values())
        self.places = [{node: index for index, node in enumerate(graph.nodes)} for graph in self.graphs]

    def numbers_of_batch(self) -> dict[tuple[fx.Node, ...], tuple[Any, Any]]:
        """The rows of corresponding nodes, one per recording, whose arguments hold numbers of the batch: the arguments as `_OfBatch`.

        Raises:
            TraceError: two recordings call something else, or numbers differ in another way.
        """
        found = {}
        for row in zip(*(graph.nodes for graph in self.graphs), strict=False):
            if len({(node.op, str(node.target)) for node in row}) > 1:
                raise _holds_for_one_batch(*row)
            try:
                arguments = self._common_arguments(row)
            except _Unlike:
                raise _holds_for_one_batch(*row) from None
            if any(isinstance(leaf, _OfBatch) for leaf in nested.leaves(arguments)):
                found[row] = arguments
        if len({len(places) for places in self.places}) > 1:
            raise _holds_for_one_batch(*(next(iter(reversed(graph.nodes))) for graph in self.graphs))
        return found

    def _common_arguments(self, row: tuple[fx.Node, ...]) -> Any:
        """One value for the arguments of corresponding nodes."""
        leaves, structures = zip(*(nested.flatten((node.args, node.kwargs)) for node in row), strict=True)
        if any(structure != structures[0] for structure in structures):
            raise _Unlike
        return nested.unflatten(structures[0], [self._common(values) for values in zip(*leaves, strict=True)])

    def _common(self, values: tuple[Any, ...]) -> Any:
        """One value for what the recordings hold in one place."""
        first = values[0]
        if len({type(value) for value in values}) > 1:
            raise _Unlike
        if isinstance(first, fx.Node):
            if len({places[value] for places, value in zip(self.places, values, strict=True)}) > 1:
                raise _Unlike
            return first
        if type(first) is int:
            return self._common_number(values)
        if len({str(value) for value in values}) > 1:
            raise _Unlike
        return first

    def _common_number(self, values: tuple[int, ...]) -> Any:
        (first_batch, first), (second_batch, second), *rest = zip(self.batches, values, strict=True)
        times, left = divmod(second - first, second_batch - first_batch)
        plus = first - times * first_batch
        if left or any(value != times * batch + plus for batch, value in rest):
            raise _Unlike
        return _OfBatch(times, plus) if times else first


def _let_numbers_follow(graph: fx.Graph, numbers: Mapping[tuple[fx.Node, ...], tuple[Any, Any]], size: int) -> None:
    """Numbers of the batch are computed from the size of the first input."""
    start = next(node for node in graph.nodes if node.op != "placeholder")
    for (node, *_), arguments in numbers.items():
        with graph.inserting_before(start):
            node.args, node.kwargs = nested.map_leaves(arguments, functools.partial(_written, graph=graph, size=size))


def _alike(first: GraphWriter, second: GraphWriter) -> bool:
    return signature_of(first.graph) == signature_of(second.graph)


def signature_of(graph: fx.Graph) -> list[Any]:
    """What two recordings are compared by."""
    order = {node: index for index, node in enumerate(graph.nodes)}
    return [(node.op, str(node.target), str(fx.node.map_arg((node.args, node.kwargs), lambda n: f"%{order[n]}"))) for node in graph.nodes]


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
    node.meta.update(val=value, op=name, path="", source="", stack=(), inplace=False)
    return node


def _require_same_constants(run: GraphWriter, other: GraphWriter) -> None:
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
