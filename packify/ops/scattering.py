"""Operators that write to positions given by an index: index_add, index_copy, scatter and its kin, as message passing uses them."""

from __future__ import annotations

from typing import Any

from packify.packing.builder import PackBuilder, PackedValue, packed_values_in
from packify.widths.dims import Dim
from packify.widths.propagation import Axes, WidthPropagation

BY_POSITION = "index_add index_copy index_fill index_reduce".split()
BY_ELEMENT = "scatter scatter_add scatter_reduce".split()


def index_add(widths: WidthPropagation, input: Axes, dim: int, index: Axes, source: Any = None, **_: Any) -> list[Dim]:
    """Whole slices go to positions of one axis; the other axes meet."""
    axis = dim % max(len(input.dims), 1)
    if input.dims:
        widths.pin(input.dims[axis], "single positions of it are written")
    if isinstance(source, Axes) and len(source.dims) == len(input.dims):
        for position, (own, other) in enumerate(zip(input.dims, source.dims, strict=True)):
            if position != axis:
                widths.equate(own, other)
            elif index.dims:
                widths.equate(other, index.dims[0])
    return input.dims


def scatter(widths: WidthPropagation, input: Axes, dim: int, index: Axes, src: Any = None, **_: Any) -> list[Dim]:
    """Single elements go to positions of one axis; the other axes meet where they are equally long."""
    axis = dim % max(len(input.dims), 1)
    if input.dims:
        widths.pin(input.dims[axis], "single positions of it are written")
    for position, (own, other) in enumerate(zip(input.dims, index.dims, strict=True)):
        if position != axis:
            _meet(widths, own, other)
    if isinstance(src, Axes):
        for own, other in zip(index.dims, src.dims, strict=True):
            _meet(widths, own, other)
    return input.dims


def _meet(widths: WidthPropagation, left: Dim, right: Dim) -> None:
    if left.root().size == right.root().size:
        widths.equate(left, right)
    else:
        widths.pin(left, "a part of it is written")
        widths.pin(right, "a part of it is read")


# -- how members are packed --------------------------------------------------------------------------------------------


def pack(builder: PackBuilder, node: Any, input: Any, dim: int, index: Any, **others: Any) -> Any:
    """Members on an axis that is not written to; one by one where there is no other."""
    x, operands = input, packed_values_in((input, index, others))
    if not any(tensor.packed for tensor in operands):
        return builder.call(node, None)
    by_element = node.meta["op"] in BY_ELEMENT
    spared = [axis for axis in range(x.ndim) if axis != dim % max(x.ndim, 1)]
    if by_element:
        spared = [axis for axis in spared if all(tensor.ndim > axis and tensor.shape[axis] == x.shape[axis] for tensor in operands)]
    if not spared or (index.packed and not by_element):
        return builder.fallback(node, why="it writes along the axis of the members")
    axis = next((tensor.axis for tensor in operands if tensor.axis in spared), spared[0])

    moved = {"input": x, **({"index": index} if by_element else {}), **others}
    changes = {name: builder.to(value, axis) for name, value in moved.items() if isinstance(value, PackedValue)}
    return builder.call(node, axis, **changes)
