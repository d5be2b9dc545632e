"""Operators that write to positions given by an index: index_add, index_copy, scatter and its kin, as message passing uses them."""

from __future__ import annotations

from typing import Any

import torch

from packify.packing.members import FRONT
from packify.packing.ride import Ride, Rider, rides_in
from packify.widths.dims import Dim
from packify.widths.walk import Axes, Walk

BY_POSITION = "index_add index_copy index_fill index_reduce".split()
BY_ELEMENT = "scatter scatter_add scatter_reduce".split()


def index_add(walk: Walk, x: Axes, dim: int, index: Axes, source: Any = None, *args: Any, **kwargs: Any) -> list[Dim]:
    """Whole slices go to positions of one axis; the other axes meet."""
    axis = dim % max(len(x.dims), 1)
    source = kwargs.get("source", kwargs.get("value", source))
    if x.dims:
        walk.pin(x.dims[axis], "single positions of it are written")
    if isinstance(source, Axes) and len(source.dims) == len(x.dims):
        for position, (own, other) in enumerate(zip(x.dims, source.dims, strict=True)):
            if position != axis:
                walk.equate(own, other)
            elif index.dims:
                walk.equate(other, index.dims[0])
    return x.dims


def scatter(walk: Walk, x: Axes, dim: int, index: Axes, src: Any = None, *args: Any, **kwargs: Any) -> list[Dim]:
    """Single elements go to positions of one axis; the other axes meet where they are equally long."""
    axis = dim % max(len(x.dims), 1)
    src = kwargs.get("src", kwargs.get("value", src))
    if x.dims:
        walk.pin(x.dims[axis], "single positions of it are written")
    for position, (own, other) in enumerate(zip(x.dims, index.dims, strict=True)):
        if position != axis:
            _meet(walk, own, other)
    if isinstance(src, Axes):
        for own, other in zip(index.dims, src.dims, strict=True):
            _meet(walk, own, other)
    return x.dims


def _meet(walk: Walk, left: Dim, right: Dim) -> None:
    if left.root().size == right.root().size:
        walk.equate(left, right)
    else:
        walk.pin(left, "a part of it is written")
        walk.pin(right, "a part of it is read")


# -- how members ride ----------------------------------------------------------------------------------------------------


def ride(rider: Rider, node: Any, x: Any, dim: int, index: Any, *args: Any, **kwargs: Any) -> Any:
    """Members ride on an axis that is not written to; on none where there is no other."""
    rides = rides_in((x, index, args, kwargs))
    if not any(ride.packed for ride in rides):
        return rider.native(node, (x, dim, index, *args), kwargs, None)
    by_element = node.meta["op"] in BY_ELEMENT
    spared = [axis for axis in range(x.ndim) if axis != dim % max(x.ndim, 1)]
    if by_element:
        spared = [axis for axis in spared if all(ride.ndim > axis and ride.shape[axis] == x.shape[axis] for ride in rides)]
    if not spared or (index.packed and not by_element):
        return rider.fallback(node, (x, dim, index, *args), kwargs, "it writes along the axis of the members")
    axis = next((ride.axis for ride in rides if ride.axis in spared), spared[0])

    def carried(value: Any) -> Any:
        return own(rider, value, axis) if isinstance(value, Ride) else value

    index = carried(index) if by_element else index
    return rider.native(node, (carried(x), dim, index, *map(carried, args)), {key: carried(value) for key, value in kwargs.items()}, axis)


def own(rider: Rider, ride: Ride, axis: int) -> Ride:
    """A tensor with members on an axis, in memory of its own where it was shared: it may be written to."""
    if ride.packed:
        return rider.to(ride, axis)
    made = rider.to(ride, axis)
    return Ride(_copied(rider, made), made.axis, made.val)


def _copied(rider: Rider, ride: Ride) -> Any:
    node = rider.emit(torch.clone, ride)
    node.meta.update(val=ride.val, axis=ride.axis if ride.axis is not None else FRONT)
    return node
