"""What is known about a recording's widths before any configuration is chosen: worked out once, and never changed by a configuration."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from packify.capture.graphs import RecordedGraphs
from packify.capture.remembered import RememberedCalls
from packify.widths.assignment import Sizes
from packify.widths.dims import Dim, wholes_first
from packify.widths.gamma import Place, places
from packify.widths.heads import Split, splits_of
from packify.widths.numbers import Number, numbers_of
from packify.widths.propagation import HasWidths, Parameters, WidthPropagation
from packify.widths.weights import argument, groups_of, is_read_elsewhere, used_more_than_once, weight_name, weight_sources


@dataclass(frozen=True)
class Layer:
    """A conv or linear of a graph.

    Attributes:
        name: qualified name of the module, or of the node.
        place: where it stands in the graph.
        width_in, width_out: its channels or features.
        groups: the reference's own.
        weight: the parameter that is its weight, or alone computes it.
        sources: the parameters and buffers that its weight is computed from.
        whole: why gamma cannot cut it in any configuration; empty if it can.
        cardinality: the number of its groups, where that scales, as in a depthwise conv, and the channels of one stay.
    """

    node: fx.Node
    name: str
    place: Place
    width_in: Dim
    width_out: Dim
    groups: int
    weight: str | None
    sources: frozenset[str]
    whole: str
    cardinality: Dim | None = None

    @property
    def is_inner(self) -> bool:
        """Neither a first nor a last layer."""
        return not (self.place.first or self.place.last)

    @property
    def is_depthwise(self) -> bool:
        """Its groups are its channels, whatever a configuration says."""
        return self.width_in.root().size == self.groups or self.width_out.root().size == self.groups

    def groups_in(self, sizes: Sizes) -> int:
        """Its own groups in a member."""
        return self.groups if self.cardinality is None else sizes.of(self.cardinality)


class WidthAnalysis:
    """The widths of a recording.

    Attributes:
        parameters: the dims of parameters, buffers and constants.
        propagations: the propagation of every graph, by the graph's id.
        roots: every size there is, each once.
        layers: every conv and linear, by its node.
        calls: what calls give, remembered over members.
    """

    def __init__(self, recorded: RecordedGraphs, rules: Mapping[Any, HasWidths], scaled_groups: frozenset[int] = frozenset()) -> None:
        self.recorded, self.rules, self.scaled_groups = recorded, rules, scaled_groups
        self.parameters = Parameters(recorded.root, recorded.constants, recorded.tables)
        self.propagations = {
            id(graph): WidthPropagation(recorded.root, graph, self.parameters, rules, scaled_groups) for graph in recorded.graphs.values()
        }
        for propagation in self.propagations.values():
            propagation.run()
        held = [self.parameters.dims.values(), *(propagation.dims.values() for propagation in self.propagations.values())]
        self.roots = list(wholes_first(dim for values in held for dim in flat(values)))
        self.calls = RememberedCalls()
        self.layers = {layer.node: layer for layer in self._layers()}

    @functools.cached_property
    def unused(self) -> frozenset[str]:
        """Parameters that forward never reads, see `RecordedGraphs.unused`."""
        return self.recorded.unused

    @functools.cached_property
    def splits(self) -> list[Split]:
        """The widths that are made of heads."""
        return splits_of(self.roots)

    @functools.cached_property
    def numbers(self) -> list[Number]:
        """The numbers in the graphs that may have been computed from a width."""
        return numbers_of(self)

    def _layers(self) -> Iterator[Layer]:
        found = {node: place for propagation in self.propagations.values() for node, place in places(propagation.graph, self.rules).items()}
        shared = used_more_than_once(found)
        for node, place in found.items():
            weight, whole = weight_name(node), ""
            cuts = next((propagation.cuts[node] for propagation in self.propagations.values() if node in propagation.cuts), None)
            widths = self._widths(node)
            cardinality = None if cuts is None else cuts[1][1]  # its rule has marked its groups as a width
            scaled = groups_of(node) in self.scaled_groups and groups_of(node) not in [width.root().size for width in widths]
            if weight is None or weight in shared or is_read_elsewhere(node):
                whole = COMPUTED
            elif cuts is not None and not scaled:
                whole = DEPTHWISE
            name = node.meta["path"] or node.name
            sources = frozenset((weight,)) if weight is not None else weight_sources(node)
            yield Layer(node, name, place, *widths, groups_of(node), weight, sources, whole, cardinality)

    def _widths(self, node: fx.Node) -> tuple[Dim, Dim]:
        """A layer's input and output width."""
        dims = next(propagation.dims for propagation in self.propagations.values() if node in propagation.dims)
        data, weight = argument(node, "input"), argument(node, "weight")
        axis = -1 if node.meta["op"] == "linear" else len(dims[data]) - weight.meta["val"].dim() + 1
        return dims[data][axis], dims[node][axis]


COMPUTED = "its weight is computed or used by several layers"
DEPTHWISE = "it is depthwise"


def flat(value: Any) -> Iterator[Dim]:
    """Every dim in nested lists and tuples."""
    if isinstance(value, Dim):
        yield value
    elif isinstance(value, Iterable):
        for item in value:
            yield from flat(item)
