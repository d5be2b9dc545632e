"""Nested inputs and outputs as a flat list of leaves, and back: tuples, lists, dicts, named tuples, dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Leaf:
    """The place of one leaf in a structure."""

    index: int


def flatten(value: Any) -> tuple[list[Any], Any]:
    """The leaves of a nested value, and a template of the same shape whose leaves are `Leaf`."""
    leaves: list[Any] = []

    def visit(item: Any) -> Any:
        leaves.append(item)
        return Leaf(len(leaves) - 1)

    return leaves, map_leaves(value, visit)


def unflatten(template: Any, leaves: list[Any]) -> Any:
    """The inverse of `flatten`."""
    return map_leaves(template, lambda leaf: leaves[leaf.index])


def map_leaves(value: Any, visit: Callable[[Any], Any]) -> Any:
    """A copy of a nested value with every leaf replaced by ``visit(leaf)``; containers keep their type."""
    if isinstance(value, Leaf):
        return visit(value)
    if isinstance(value, tuple):
        items = [map_leaves(item, visit) for item in value]
        if hasattr(value, "_fields"):
            return type(value)(*items)
        return tuple(items) if type(value).__module__ != "torch.return_types" else type(value)(items)
    if isinstance(value, list):
        return [map_leaves(item, visit) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {field.name: map_leaves(getattr(value, field.name), visit) for field in dataclasses.fields(value) if field.init}
        return dataclasses.replace(value, **changed)
    if isinstance(value, Mapping):
        items_of = {key: map_leaves(item, visit) for key, item in value.items()}
        return items_of if type(value) is dict else type(value)(items_of)  # type: ignore[call-arg]
    return visit(value)


def paths(template: Any) -> list[str]:
    """A readable path for every leaf, in order: ``""`` for a bare leaf, ``"out"``, ``"0"``, ``"boxes.1"`` inside containers."""
    found: list[str] = []

    def visit(value: Any, prefix: str) -> None:
        if isinstance(value, Leaf):
            found.append(prefix)
        elif isinstance(value, (tuple, list)):
            names = getattr(value, "_fields", None) or [str(index) for index in range(len(value))]
            for name, item in zip(names, value, strict=True):
                visit(item, f"{prefix}.{name}".lstrip("."))
        elif dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                visit(getattr(value, field.name), f"{prefix}.{field.name}".lstrip("."))
        elif isinstance(value, Mapping):
            for key, item in value.items():
                visit(item, f"{prefix}.{key}".lstrip("."))

    visit(template, "")
    return found
