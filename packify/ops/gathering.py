"""Operators that read the positions that a tensor names: gather, take_along_dim."""

from __future__ import annotations

from typing import Any

from packify.packing.builder import PackBuilder
from packify.widths.dims import Dim, fixed
from packify.widths.matching import read_elements
from packify.widths.propagation import Axes, WidthPropagation


def gather(widths: WidthPropagation, input: Axes, dim: int, index: Axes, **_: Any) -> list[Dim]:
    widths.pin(input.dims[dim], "single positions of it are read")
    read_elements(input.dims[dim])
    for axis, (a, b) in enumerate(zip(input.dims, index.dims, strict=True)):
        if axis == dim % len(input.dims):
            continue
        if a.root().size == b.root().size:
            widths.equate(a, b)
        elif 1 not in (a.root().size, b.root().size):
            widths.pin(a, "a part of it is read")
            widths.pin(b, "a part of an axis is read with it")
    return index.dims


def take_along_dim(widths: WidthPropagation, input: Axes, indices: Axes, dim: int | None) -> list[Dim]:
    if dim is None:
        widths.pin_all((input, indices), "it is read as one flat tensor")
        return indices.dims if indices.val.dim() == widths.out.dim() else [fixed(size) for size in widths.out.shape]
    dims = gather(widths, input, dim, indices)
    return (
        [own if own.root().size != 1 else other for own, other in zip(dims, input.dims, strict=True)]
        if widths.out.shape != indices.shape
        else dims
    )


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_gather(builder: PackBuilder, node: Any, input: Any, dim: int, index: Any, **_: Any) -> Any:
    """Members on an axis that is not read along and of which all is read: one member's index must not reach the next one's input."""
    if not (input.packed or index.packed):
        return builder.call(node, None)
    axis = next((axis for axis in range(input.ndim) if axis != dim % input.ndim and input.shape[axis] == index.shape[axis]), None)
    if axis is None:
        return builder.fallback(node, why="it reads along the axis of the members, or a part of it")
    return builder.call(node, axis, input=builder.to(input, axis), index=builder.to(index, axis))


def pack_take_along_dim(builder: PackBuilder, node: Any, input: Any, indices: Any, dim: int | None) -> Any:
    if not (input.packed or indices.packed):
        return builder.call(node, None)
    if dim is None:  # torch takes a view of all elements, which there is of one member where members are outermost
        return builder.fallback(node, *builder.changed(node, input=builder.to(input, 0) if input.packed else input))
    if node.meta["val"].shape != indices.shape:
        return builder.fallback(node)
    axis = 0 if dim % input.ndim else min(1, input.ndim - 1)
    if dim % input.ndim == axis or input.shape[axis] != indices.shape[axis]:
        return builder.fallback(node)
    return builder.call(node, axis, input=builder.to(input, axis), indices=builder.to(indices, axis))
