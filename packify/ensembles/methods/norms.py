"""The normalisation layers of a recording, and the parameters and statistics that they read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from packify.capture.graphs import RecordedGraphs
from packify.capture.operators import rule_of
from packify.nn.tree import is_constant
from packify.ops.table import RULES

_NORM = RULES["layer_norm"].family


def norm_tensors(recorded: RecordedGraphs, table: Mapping[Any, Any]) -> set[str]:
    """The names of the parameters and buffers that norms of activations read, in all modes; norms of weights are not meant."""
    found: set[str] = set()
    for graph in recorded.graphs.values():
        seen = from_inputs(graph)
        for node in graph.nodes:
            rule = rule_of(table, node) if node.op.startswith("call") else None
            if rule is None or rule.family != _NORM or node not in seen:
                continue
            if node.op == "call_module":
                module = recorded.root.get_submodule(str(node.target))
                found |= {f"{node.target}.{name}" for name, _ in (*module.named_parameters(), *module.named_buffers())}
            found |= {str(source.target) for source in node.all_input_nodes if source.op == "get_attr"}
    return {name for name in found if not is_constant(name)}


def from_inputs(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that some input's numbers go into; sizes are none."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(
            source in found and isinstance(source.meta["val"], (Tensor, tuple, list)) for source in node.all_input_nodes
        ):
            found.add(node)
    return found
