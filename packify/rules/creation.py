"""Operators that make a tensor from sizes: zeros, arange, new_empty, meshgrid."""

from __future__ import annotations

from typing import Any

from packify.packing.members import FRONT
from packify.packing.ride import Rider, rides_in
from packify.tracing.names import RANDOM
from packify.widths.dims import fixed, free
from packify.widths.walk import Axes, Call, Walk

SIZED = "zeros ones empty full rand randn".split()
NEW = "new_zeros new_ones new_empty new_full new_tensor".split()


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
    if len(call.shape) == 2 and call.shape != (length, length):
        return call.shape, kwargs  # eye(n, m)
    if len(numbers) == 1 and numbers[0] != length:
        return (length,), kwargs
    return args, kwargs


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
