"""Nested values: the arguments of a call, the inputs and outputs of a network. One way through all of them.

Containers are tuples, named tuples, `torch.return_types`, lists, mappings and slices; `flatten`, `unflatten` and `paths`, which are
about what a user passes and gets, look into dataclasses too. Everything else is a leaf.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Types that most leaves have; a look-up is faster than the questions what they could be.
_PLAIN = frozenset((int, float, bool, str, type(None)))


@dataclass(frozen=True)
class Leaf:
    """The place of one leaf in a structure."""

    index: int


def leaves(value: Any, *, in_dataclasses: bool = False) -> Iterator[Any]:
    """Everything in a nested value that is no container, in order: ``[1, (2, slice(3, None))]`` has 1, 2, 3, None, None."""
    children = None if type(value) in _PLAIN else _children(value, in_dataclasses)
    if children is None:
        yield value
        return
    for _, item in children:
        yield from leaves(item, in_dataclasses=in_dataclasses)


def map_leaves(value: Any, visit: Callable[[Any], Any], *, in_dataclasses: bool = False) -> Any:
    """A copy of a nested value with every leaf replaced by ``visit(leaf)``; containers keep their type."""
    kind = type(value)
    if kind in _PLAIN:
        return visit(value)
    if kind is tuple or kind is list:
        return kind([map_leaves(item, visit, in_dataclasses=in_dataclasses) for item in value])
    children = _children(value, in_dataclasses)
    if children is None:
        return visit(value)
    return _rebuilt(value, [(name, map_leaves(item, visit, in_dataclasses=in_dataclasses)) for name, item in children])


def flatten(value: Any) -> tuple[list[Any], Any]:
    """The leaves of a nested value, and a template of the same shape whose leaves are `Leaf`."""
    found: list[Any] = []

    def visit(item: Any) -> Any:
        found.append(item)
        return Leaf(len(found) - 1)

    return found, map_leaves(value, visit, in_dataclasses=True)


def unflatten(template: Any, leaves: list[Any]) -> Any:
    """The inverse of `flatten`."""
    return map_leaves(template, lambda leaf: leaves[leaf.index], in_dataclasses=True)


def paths(template: Any) -> list[str]:
    """A readable path for every leaf, in order: ``""`` for a bare leaf, ``"out"``, ``"0"``, ``"boxes.1"`` inside containers."""
    children = _children(template, True)
    if children is None:
        return [""] if isinstance(template, Leaf) else []
    return [f"{name}.{path}" if path else str(name) for name, item in children for path in paths(item)]


def _children(value: Any, in_dataclasses: bool) -> list[tuple[Any, Any]] | None:
    """What a container holds, each with its name or number; None for a leaf."""
    if isinstance(value, (tuple, list)):
        names = getattr(value, "_fields", None)
        return list(enumerate(value)) if names is None else list(zip(names, value, strict=True))
    if in_dataclasses and dataclasses.is_dataclass(value) and not isinstance(value, (type, Leaf)):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value) if field.init]
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, slice):
        return [("start", value.start), ("stop", value.stop), ("step", value.step)]
    return None


def _rebuilt(value: Any, children: list[tuple[Any, Any]]) -> Any:
    """A container like `value` with other children."""
    items = [item for _, item in children]
    kind: Any = type(value)
    if isinstance(value, tuple):
        if hasattr(value, "_fields"):
            return kind(*items)
        return kind(items) if kind.__module__ == "torch.return_types" else tuple(items)
    if isinstance(value, list):
        return items
    if isinstance(value, slice):
        return slice(*items)
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **dict(children))  # type: ignore[type-var]
    if isinstance(value, defaultdict):
        return defaultdict(value.default_factory, children)
    plain = kind is dict or kind.__module__ == "torch.fx.immutable_collections"  # a node's own arguments
    return dict(children) if plain else kind(dict(children))
