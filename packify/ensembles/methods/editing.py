"""A copy of a recorded graph into which calls are put, each with the stamp of the layer that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx

from packify.capture.binding import arguments, rewritten
from packify.capture.operators import rule_of

_STAMP = ("path", "source", "stack")


class GraphEdit:
    """A copy of a graph that calls are put into.

    Attributes:
        graph: the copy.
        nodes: its nodes by those of the graph that it copies.
    """

    def __init__(self, graph: fx.Graph, table: Mapping[Any, Any]) -> None:
        self.graph, self.table = fx.Graph(), table
        self.nodes: dict[fx.Node, fx.Node] = {}
        for node in graph.nodes:
            new = self.graph.node_copy(node, self.nodes.__getitem__)
            new.meta = {**node.meta, "recorded": (node.name,)}
            self.nodes[node] = new

    def tensor(self, name: str, value: Tensor, before: fx.Node) -> fx.Node:
        """A parameter or buffer, read just before a call."""
        with self.graph.inserting_before(before):
            return _stamped(self.graph.get_attr(name), before, "get_attr", value)

    def call_before(self, layer: fx.Node, function: Callable[..., Any], *args: Any, value: Tensor) -> fx.Node:
        """A call just before a layer's; `value` is what it returns, on meta."""
        with self.graph.inserting_before(layer):
            return _stamped(self.graph.call_function(function, args), layer, function.__name__, value)

    def call_after(self, layer: fx.Node, last: fx.Node, function: Callable[..., Any], *args: Any) -> fx.Node:
        """A call after `last`, of the shape of the layer's output; it takes the place of `last` wherever that is read."""
        with self.graph.inserting_after(last):
            new = _stamped(self.graph.call_function(function, args), layer, function.__name__, layer.meta["val"])
        new.meta["recorded"], last.meta["recorded"] = last.meta["recorded"], ()
        last.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
        return new

    def arguments(self, layer: fx.Node) -> dict[str, Any]:
        """The arguments of a layer's call as they are now, by their names in its operator's row."""
        return arguments(layer, rule_of(self.table, layer).signature)

    def change(self, layer: fx.Node, **changes: Any) -> None:
        """Other arguments of a layer's call, by their names in its operator's row."""
        layer.args, layer.kwargs = rewritten(layer, changes, rule_of(self.table, layer).signature)

    def without_unread(self) -> fx.Graph:
        """The copy, without the parameters that nothing reads any more."""
        for node in reversed(self.graph.find_nodes(op="get_attr")):
            if not node.users:
                self.graph.erase_node(node)
        return self.graph


def _stamped(node: fx.Node, layer: fx.Node, op: str, value: Tensor) -> fx.Node:
    node.meta.update({key: layer.meta[key] for key in _STAMP})
    node.meta.update(op=op, inplace=False, random=None, val=value, recorded=())
    return node
