"""Which parameter is the weight of a layer, and the layers that share one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from packify.capture.binding import arguments


def argument(node: fx.Node, name: str) -> Any:
    """An argument of a layer's call, however it was passed."""
    return arguments(node).get(name)


def groups_of(node: fx.Node) -> int:
    """The reference's own group count of a layer node."""
    groups = argument(node, "groups")
    groups = groups.meta["val"] if isinstance(groups, fx.Node) else groups
    return int(groups or 1)


def weight_nodes(node: fx.Node) -> set[fx.Node]:
    """The nodes that a layer's weight is computed by, itself included."""
    seen: set[fx.Node] = set()
    stack = [argument(node, "weight")]
    while stack:
        current = stack.pop()
        if isinstance(current, fx.Node) and current not in seen:
            seen.add(current)
            stack += current.all_input_nodes
    return seen


def weight_name(node: fx.Node) -> str | None:
    """The parameter that is, or alone computes, a layer's weight in the weight's own shape."""
    nodes = weight_nodes(node)
    shape = argument(node, "weight").meta["val"].shape
    if any(current.op in ("placeholder", "call_module") for current in nodes):
        return None
    found = {str(current.target) for current in nodes if current.op == "get_attr" and current.meta["val"].shape == shape}
    return found.pop() if len(found) == 1 else None


def weight_sources(node: fx.Node) -> frozenset[str]:
    """The parameters and buffers that a layer's weight is computed from."""
    return frozenset(str(source.target) for source in weight_nodes(node) if source.op == "get_attr")


def weight_is_computed(node: fx.Node) -> bool:
    """A layer's weight is not a parameter itself, but made of some."""
    return bool(argument(node, "weight").op != "get_attr")


def used_more_than_once(nodes: Iterable[fx.Node]) -> set[str]:
    """Weights that several layers of one graph share."""
    seen: dict[tuple[int, str], int] = {}
    for node in nodes:
        key = (id(node.graph), weight_name(node) or "")
        seen[key] = seen.get(key, 0) + 1
    return {name for (_, name), count in seen.items() if count > 1}


def is_read_elsewhere(node: fx.Node) -> bool:
    """Something else than this layer reads its weight, or writes to it."""
    own = {node, *weight_nodes(node)}
    readers = {user for source in own - {node} for user in source.users} - own
    return any(isinstance(user.meta["val"], (torch.Tensor, tuple, list)) for user in readers)
