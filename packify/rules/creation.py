"""Operators that make a tensor from sizes: zeros, arange, new_empty, meshgrid."""

from __future__ import annotations

from typing import Any

from packify.widths.dims import fixed, free
from packify.widths.walk import Axes, Call, Walk

SIZED = "zeros ones empty full rand randn".split()
NEW = "new_zeros new_ones new_empty new_full".split()


def sized(walk: Walk, *args: Any, **kwargs: Any) -> Any:
    """Its axes take the sizes of what it meets."""
    return [free(size) if size != 1 else fixed(1) for size in walk.out.shape]


def meshgrid(walk: Walk, *grids: Any, **kwargs: Any) -> Any:
    tensors = grids[0] if len(grids) == 1 and not isinstance(grids[0], Axes) else grids
    dims = [axes.dims[0] if axes.dims else fixed(1) for axes in tensors]
    if kwargs.get("indexing", "ij") == "xy":
        dims[:2] = dims[1::-1]
    return tuple(dims for _ in walk.out)


def refit_arange(args: Any, kwargs: Any, call: Call) -> Any:
    numbers = [value for value in call.values if isinstance(value, (int, float))]
    length = call.shape[0]
    if len(numbers) == 1 and numbers[0] != length:
        return (length,), kwargs
    return args, kwargs


def one_hot(walk: Walk, x: Axes, num_classes: int = -1) -> Any:
    return [*x.dims, fixed(walk.out.shape[-1])]
