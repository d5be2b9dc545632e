"""Operators that write to positions given by an index: index_add, index_copy, scatter and its kin, as message passing uses them."""

from __future__ import annotations

from typing import Any

from packify.packing.builder import PackBuilder, PackedValue, packed_values_in
from packify.widths.dims import Dim
from packify.widths.propagation import Axes, WidthPropagation

BY_POSITION = "index_add index_copy index_fill index_reduce".split()
BY_ELEMENT = "scatter scatter_add scatter_reduce".split()


def index_add(widths: WidthPropagation, x: Axes, dim: int, index: Axes, source: Any = None, *args: Any, **kwargs: Any) -> list[Dim]:
    """Whole slices go to positions of one axis; the other axes meet."""
    axis = dim % max(len(x.dims), 1)
    source = kwargs.get("source", kwargs.get("value", source))
    if x.dims:
        widths.pin(x.dims[axis], "single positions of it are written")
    if isinstance(source, Axes) and len(source.dims) == len(x.dims):
        for position, (own, other) in enumerate(zip(x.dims, source.dims, strict=True)):
            if position != axis:
                widths.equate(own, other)
            elif index.dims:
                widths.equate(other, index.dims[0])
    return x.dims


def scatter(widths: WidthPropagation, x: Axes, dim: int, index: Axes, src: Any = None, *args: Any, **kwargs: Any) -> list[Dim]:
    """Single elements go to positions of one axis; the other axes meet where they are equally long."""
    axis = dim % max(len(x.dims), 1)
    src = kwargs.get("src", kwargs.get("value", src))
    if x.dims:
        widths.pin(x.dims[axis], "single positions of it are written")
    for position, (own, other) in enumerate(zip(x.dims, index.dims, strict=True)):
        if position != axis:
            _meet(widths, own, other)
    if isinstance(src, Axes):
        for own, other in zip(index.dims, src.dims, strict=True):
            _meet(widths, own, other)
    return x.dims


def _meet(widths: WidthPropagation, left: Dim, right: Dim) -> None:
    if left.root().size == right.root().size:
        widths.equate(left, right)
    else:
        widths.pin(left, "a part of it is written")
        widths.pin(right, "a part of it is read")


# -- how members are packed --------------------------------------------------------------------------------------------


def pack(builder: PackBuilder, node: Any, x: Any, dim: int, index: Any, *args: Any, **kwargs: Any) -> Any:
    """Members on an axis that is not written to; one by one where there is no other."""
    operands = packed_values_in((x, index, args, kwargs))
    if not any(tensor.packed for tensor in operands):
        return builder.native(node, (x, dim, index, *args), kwargs, None)
    by_element = node.meta["op"] in BY_ELEMENT
    spared = [axis for axis in range(x.ndim) if axis != dim % max(x.ndim, 1)]
    if by_element:
        spared = [axis for axis in spared if all(tensor.ndim > axis and tensor.shape[axis] == x.shape[axis] for tensor in operands)]
    if not spared or (index.packed and not by_element):
        return builder.fallback(node, (x, dim, index, *args), kwargs, "it writes along the axis of the members")
    axis = next((tensor.axis for tensor in operands if tensor.axis in spared), spared[0])

    def carried(value: Any) -> Any:
        return builder.to(value, axis) if isinstance(value, PackedValue) else value

    index = carried(index) if by_element else index
    return builder.native(node, (carried(x), dim, index, *map(carried, args)), {key: carried(value) for key, value in kwargs.items()}, axis)
