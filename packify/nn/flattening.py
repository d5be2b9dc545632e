"""The way back: the small graphs of a nested network as one flat graph, to prove that nesting loses nothing."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from torch import fx

from packify.core import nested
from packify.nn.block import Form


def flat_again(root: Form, parts: Mapping[str, tuple[Form, ...]], mode: str) -> fx.Graph:
    """One graph whose attributes and modules have their names in the whole network; modules without small graphs are called.

    Args:
        root: what the network itself runs for one kind of inputs.
        parts: the forms of its modules.
        mode: ``"eval"`` or ``"train"``.
    """
    flat = _Flat(parts, mode)
    graph = _graph_of(root, mode)
    inputs = [flat.graph.placeholder(str(node.target)) for node in graph.find_nodes(op="placeholder")]
    flat.graph.output(flat.inline(graph, inputs, {}, ""))
    return flat.graph


def _graph_of(form: Form, mode: str) -> fx.Graph:
    return form.training if mode == "train" else form.evaluation


class _Flat:
    def __init__(self, parts: Mapping[str, tuple[Form, ...]], mode: str) -> None:
        self.parts, self.mode, self.graph = parts, mode, fx.Graph()

    def inline(self, graph: fx.Graph, args: Any, kwargs: Mapping[str, Any], path: str) -> Any:
        """What a small graph returns for these arguments: a nested value of nodes."""
        names = [str(node.target) for node in graph.find_nodes(op="placeholder")]
        given = dict(zip(names, args, strict=False)) | dict(kwargs)
        env: dict[fx.Node, Any] = {}

        def values(value: Any) -> Any:
            return nested.map_leaves(value, lambda leaf: env[leaf] if isinstance(leaf, fx.Node) else leaf)

        for node in graph.nodes:
            if node.op == "placeholder":
                env[node] = given[str(node.target)]
            elif node.op == "output":
                return values(node.args[0])
            else:
                given_here, named_here = values((tuple(node.args), dict(node.kwargs)))
                env[node] = self._made(node, given_here, named_here, path)
        return None

    def _made(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> Any:
        last = next(iter(reversed(self.graph.nodes)), None)
        made = self._again(node, args, kwargs, path)
        if isinstance(made, fx.Node) and made.prev is last:  # and not one that a structure holds
            made.meta |= node.meta
        return made

    def _again(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> Any:
        if node.op == "get_attr":
            return self.graph.get_attr(f"{path}.{node.target}".strip("."))
        if node.op == "call_module":
            inner = f"{path}.{node.target}".lstrip(".")
            forms = self.parts.get(inner)
            if forms is None:
                return self.graph.call_module(inner, args, kwargs)
            return self.inline(_graph_of(forms[kwargs.pop("form", 0)], self.mode), args, kwargs, inner)
        target: Any = node.target
        if target in (operator.getitem, getattr) and not isinstance(args[0], fx.Node):
            return target(*args)  # taken out of a structure that a block returned or was given
        if isinstance(target, type):
            return target(*args, **kwargs)
        return self.graph.create_node(node.op, target, args, kwargs)
