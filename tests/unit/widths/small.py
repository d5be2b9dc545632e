"""The widths of networks of a few nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn

from packify.capture.graphs import record_graphs
from packify.ops.table import RULES
from packify.widths.analysis import WidthAnalysis


class Network(nn.Module):
    """Modules and parameters by name, and what is computed with them."""

    def __init__(self, forward: Callable[..., Any], **held: Any) -> None:
        super().__init__()
        for name, value in held.items():
            setattr(self, name, value)
        self.__dict__["compute"] = forward

    def forward(self, x: Any) -> Any:
        return self.compute(self, x)


def analysed(
    forward: Callable[..., Any], x: Any, rules: Any = RULES, scaled_groups: frozenset[int] = frozenset(), **held: Any
) -> WidthAnalysis:
    """The widths of ``forward(network, x)``, evaluation mode's."""
    return WidthAnalysis(record_graphs(Network(forward, **held).eval(), x), rules, scaled_groups)


def graph_of(analysis: WidthAnalysis) -> fx.Graph:
    """The graph in evaluation mode."""
    return analysis.recorded.graphs["eval"]


def node_of(analysis: WidthAnalysis, operator: str, number: int = 0) -> fx.Node:
    """The n-th node of an operator."""
    return [node for node in graph_of(analysis).nodes if node.meta.get("op") == operator][number]


def dims_of(analysis: WidthAnalysis, node: fx.Node) -> Any:
    """The dims of a node's value."""
    return analysis.propagations[id(node.graph)].dims[node]
