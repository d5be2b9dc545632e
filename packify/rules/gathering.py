"""Operators that read the positions that a tensor names: gather, take_along_dim."""

from __future__ import annotations

from typing import Any

from packify.packing.ride import Rider
from packify.widths.dims import Dim, fixed
from packify.widths.walk import Axes, Walk


def gather(walk: Walk, x: Axes, dim: int, index: Axes, **kwargs: Any) -> list[Dim]:
    walk.pin(x.dims[dim], "single positions of it are read")
    for axis, (a, b) in enumerate(zip(x.dims, index.dims, strict=True)):
        if axis != dim % len(x.dims) and a.root().size == b.root().size:
            walk.equate(a, b)
    return index.dims


def take_along_dim(walk: Walk, x: Axes, indices: Axes, dim: int | None = None) -> list[Dim]:
    if dim is None:
        walk.pin_all((x, indices), "it is read as one flat tensor")
        return indices.dims if indices.val.dim() == walk.out.dim() else [fixed(size) for size in walk.out.shape]
    dims = gather(walk, x, dim, indices)
    return (
        [own if own.root().size != 1 else other for own, other in zip(dims, x.dims, strict=True)]
        if walk.out.shape != indices.shape
        else dims
    )


# -- how members ride ----------------------------------------------------------------------------------------------------


def ride_gather(rider: Rider, node: Any, x: Any, dim: int, index: Any, **kwargs: Any) -> Any:
    if not (x.packed or index.packed):
        return rider.native(node, (x, dim, index), kwargs, None)
    axis = 0 if dim % x.ndim else min(1, x.ndim - 1)
    if dim % x.ndim == axis:
        return rider.fallback(node, (x, dim, index), kwargs)
    return rider.native(node, (rider.to(x, axis), dim, rider.to(index, axis)), kwargs, axis)


def ride_take_along_dim(rider: Rider, node: Any, x: Any, indices: Any, dim: int | None = None) -> Any:
    if dim is None or node.meta["val"].shape != indices.shape:
        return rider.fallback(node, (x, indices, dim), {})
    if not (x.packed or indices.packed):
        return rider.native(node, (x, indices, dim), {}, None)
    axis = 0 if dim % x.ndim else min(1, x.ndim - 1)
    if dim % x.ndim == axis or x.shape[axis] != indices.shape[axis]:
        return rider.fallback(node, (x, indices, dim), {})
    return rider.native(node, (rider.to(x, axis), rider.to(indices, axis), dim), {}, axis)
