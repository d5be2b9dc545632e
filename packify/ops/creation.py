"""Operators that make a tensor from sizes: zeros, arange, new_empty, meshgrid."""

from __future__ import annotations

import math
from typing import Any

from packify.capture.operators import RANDOM
from packify.nn.members import FRONT
from packify.packing.builder import PackBuilder, packed_values_in
from packify.widths.dims import fixed, free
from packify.widths.propagation import Axes, Call, WidthPropagation

SIZED = "zeros ones empty full rand randn".split()
NEW = "new new_zeros new_ones new_empty new_full new_tensor".split()


def sized(widths: WidthPropagation, *args: Any, **kwargs: Any) -> Any:
    """Its axes take the sizes of what it meets."""
    return [free(size) if size != 1 else fixed(1) for size in widths.out.shape]


def meshgrid(widths: WidthPropagation, *grids: Any, **kwargs: Any) -> Any:
    tensors = grids[0] if len(grids) == 1 and not isinstance(grids[0], Axes) else grids
    dims = [axes.dims[0] if axes.dims else fixed(1) for axes in tensors]
    if kwargs.get("indexing", "ij") == "xy":
        dims[:2] = dims[1::-1]
    return tuple(dims for _ in widths.out)


def refit_arange(args: Any, kwargs: Any, call: Call) -> Any:
    """As many numbers as the member needs, from the same start in the same steps."""
    given = {
        **dict(zip(("start", "end", "step"), (0, *call.values) if len(call.values) == 1 else call.values, strict=False)),
        **call.keywords,
    }
    start, end, step = given.get("start", 0), given["end"], given.get("step", 1)
    (length,) = call.shape
    if math.ceil((end - start) / step) == length:
        return args, kwargs
    rest = {key: value for key, value in kwargs.items() if key not in ("start", "end", "step")}
    return (length,) if (start, step) == (0, 1) else (start, start + length * step, step), rest


def refit_linspace(args: Any, kwargs: Any, call: Call) -> Any:
    (length,) = call.shape
    return (*args[:2], length, *args[3:]), {key: value for key, value in kwargs.items() if key != "steps"}


def refit_square(args: Any, kwargs: Any, call: Call) -> Any:
    """eye, randperm: one number, or two."""
    numbers = [value for value in call.values if isinstance(value, int)]
    if len(set(call.shape)) == 1 and len(numbers) == 1:
        return (call.shape[0] if numbers[0] != call.shape[0] else args[0], *args[1:]), kwargs
    return tuple(call.shape) if tuple(numbers) != tuple(call.shape) else args, kwargs


def one_hot(widths: WidthPropagation, x: Axes, num_classes: int = -1) -> Any:
    return [*x.dims, fixed(widths.out.shape[-1])]


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_created(builder: PackBuilder, node: Any, *args: Any, **kwargs: Any) -> Any:
    """A tensor made from sizes is the same for all members, unless it is drawn."""
    if node.meta["op"] in RANDOM:
        return builder.fallback(node, args, kwargs, "each member draws its own")
    return builder.native(node, args, kwargs, None)


def pack_meshgrid(builder: PackBuilder, node: Any, *args: Any, **kwargs: Any) -> Any:
    if any(tensor.packed for tensor in packed_values_in((args, kwargs))):
        return builder.fallback(node, args, kwargs)
    return builder.native(node, args, kwargs, None)


def pack_new_axis(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """one_hot: a new last axis."""
    return builder.native(node, (x, *args), kwargs, x.axis) if x.axis != FRONT else builder.fallback(node, (x, *args), kwargs)
