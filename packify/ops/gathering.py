"""Operators that read the positions that a tensor names: gather, take_along_dim."""

from __future__ import annotations

from typing import Any

from packify.packing.builder import PackBuilder
from packify.widths.dims import Dim, fixed
from packify.widths.propagation import Axes, WidthPropagation


def gather(widths: WidthPropagation, x: Axes, dim: int, index: Axes, **kwargs: Any) -> list[Dim]:
    widths.pin(x.dims[dim], "single positions of it are read")
    for axis, (a, b) in enumerate(zip(x.dims, index.dims, strict=True)):
        if axis != dim % len(x.dims) and a.root().size == b.root().size:
            widths.equate(a, b)
    return index.dims


def take_along_dim(widths: WidthPropagation, x: Axes, indices: Axes, dim: int | None = None) -> list[Dim]:
    if dim is None:
        widths.pin_all((x, indices), "it is read as one flat tensor")
        return indices.dims if indices.val.dim() == widths.out.dim() else [fixed(size) for size in widths.out.shape]
    dims = gather(widths, x, dim, indices)
    return (
        [own if own.root().size != 1 else other for own, other in zip(dims, x.dims, strict=True)]
        if widths.out.shape != indices.shape
        else dims
    )


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_gather(builder: PackBuilder, node: Any, x: Any, dim: int, index: Any, **kwargs: Any) -> Any:
    if not (x.packed or index.packed):
        return builder.native(node, (x, dim, index), kwargs, None)
    axis = 0 if dim % x.ndim else min(1, x.ndim - 1)
    if dim % x.ndim == axis:
        return builder.fallback(node, (x, dim, index), kwargs)
    return builder.native(node, (builder.to(x, axis), dim, builder.to(index, axis)), kwargs, axis)


def pack_take_along_dim(builder: PackBuilder, node: Any, x: Any, indices: Any, dim: int | None = None) -> Any:
    if dim is None or node.meta["val"].shape != indices.shape:
        return builder.fallback(node, (x, indices, dim), {})
    if not (x.packed or indices.packed):
        return builder.native(node, (x, indices, dim), {}, None)
    axis = 0 if dim % x.ndim else min(1, x.ndim - 1)
    if dim % x.ndim == axis or x.shape[axis] != indices.shape[axis]:
        return builder.fallback(node, (x, indices, dim), {})
    return builder.native(node, (builder.to(x, axis), builder.to(indices, axis), dim), {}, axis)
