"""Operators that make a tensor from sizes: zeros, arange, new_empty, meshgrid."""

from __future__ import annotations

import math
from typing import Any

from packify.packing.members import FRONT
from packify.packing.ride import Rider, rides_in
from packify.tracing.names import RANDOM
from packify.widths.dims import fixed, free
from packify.widths.walk import Axes, Call, Walk

SIZED = "zeros ones empty full rand randn".split()
NEW = "new new_zeros new_ones new_empty new_full new_tensor".split()


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


def one_hot(walk: Walk, x: Axes, num_classes: int = -1) -> Any:
    return [*x.dims, fixed(walk.out.shape[-1])]


# -- how members ride ----------------------------------------------------------------------------------------------------


def ride_created(rider: Rider, node: Any, *args: Any, **kwargs: Any) -> Any:
    """A tensor made from sizes is the same for all members, unless it is drawn."""
    if node.meta["op"] in RANDOM:
        return rider.fallback(node, args, kwargs, "each member draws its own")
    return rider.native(node, args, kwargs, None)


def ride_meshgrid(rider: Rider, node: Any, *args: Any, **kwargs: Any) -> Any:
    if any(ride.packed for ride in rides_in((args, kwargs))):
        return rider.fallback(node, args, kwargs)
    return rider.native(node, args, kwargs, None)


def ride_new_axis(rider: Rider, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """one_hot: a new last axis."""
    return rider.native(node, (x, *args), kwargs, x.axis) if x.axis != FRONT else rider.fallback(node, (x, *args), kwargs)
