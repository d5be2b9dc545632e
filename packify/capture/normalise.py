"""One spelling of a call's arguments: tensors that were passed by name come by position, as operator rules expect them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch


def by_position(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with every tensor that has a name given by its position, and what stands before it too."""
    if not any(isinstance(value, torch.Tensor) for value in kwargs.values()):
        return args, kwargs
    for names in _signatures(function):
        moved = [names.index(name) for name, value in kwargs.items() if isinstance(value, torch.Tensor) and name in names]
        needed = names[len(args) : max(moved, default=-1) + 1]
        if moved and min(moved) >= len(args) and all(name in kwargs for name in needed):
            return (*args, *(kwargs[name] for name in needed)), {name: value for name, value in kwargs.items() if name not in needed}
    return args, kwargs


@functools.cache
def _signatures(function: Callable[..., Any]) -> list[list[str]]:
    """The names of the parameters that may come by position, one list per overload."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return _schemas(getattr(function, "__name__", ""))
    return [[parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]]


def _schemas(name: str) -> list[list[str]]:
    """Builtin functions have no Python signature; torch calls their first parameter ``input``."""
    found = torch._C._jit_get_schemas_for_operator(f"aten::{name}")
    names = [[argument.name for argument in schema.arguments if not argument.kwarg_only] for schema in found]
    return [["input", *rest[1:]] if rest[:1] == ["self"] else rest for rest in names]


def inplace_by_name(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with a last argument ``inplace`` given by name, as ``F.relu(x, True)`` does not."""
    names = next(iter(_signatures(function)), []) if args and isinstance(args[-1], bool) else []
    if len(names) >= len(args) and names[len(args) - 1] == "inplace":
        return args[:-1], {**kwargs, "inplace": args[-1]}
    return args, kwargs
