"""Operators along some axes: reductions, softmax, sorting, cumulative sums, normalising a vector."""

from __future__ import annotations

from typing import Any

import torch

from packify.nn.members import FRONT
from packify.ops import pointwise
from packify.packing.builder import PackBuilder, PackedValue, map_packed_values
from packify.widths.dims import Dim, fixed
from packify.widths.propagation import Axes, WidthPropagation


def axes_of(ndim: int, dim: Any) -> list[int]:
    """The axes that ``dim=`` names, counted from the front; all of them for None."""
    if dim is None:
        return list(range(ndim))
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    return [axis % ndim for axis in dims] if dims else list(range(ndim))


def reduction(widths: WidthPropagation, input: Axes, dim: Any, other: Any = None, **_: Any) -> Any:
    if isinstance(other, Axes):  # torch.max(x, y)
        return widths.broadcast(input, other)
    over = set(axes_of(len(input.dims), dim))
    first = widths.out if isinstance(widths.out, torch.Tensor) else widths.out[0]
    keep = first.dim() == len(input.dims)
    dims: list[Dim] = []
    for axis, own in enumerate(input.dims):
        if axis not in over:
            dims.append(own)
        elif keep:
            dims.append(fixed(1))
    return dims if isinstance(widths.out, torch.Tensor) else tuple(dims for _ in widths.out)


def along(widths: WidthPropagation, input: Axes, **_: Any) -> Any:
    return input.dims if isinstance(widths.out, torch.Tensor) else tuple(input.dims for _ in widths.out)


def ordered(widths: WidthPropagation, input: Axes, **_: Any) -> Any:
    first = widths.out if isinstance(widths.out, torch.Tensor) else widths.out[0]
    dims = []
    if first.dim() != len(input.dims):
        widths.pin_all(input, "its order decides the result")
        return widths.structure()
    for axis, own in enumerate(input.dims):
        if first.shape[axis] != input.shape[axis]:
            widths.pin(own, "a fixed number of it is picked")
            dims.append(fixed(first.shape[axis]))
        else:
            dims.append(own)
    return dims if isinstance(widths.out, torch.Tensor) else tuple(dims for _ in widths.out)


# -- how members are packed --------------------------------------------------------------------------------------------


def pack(builder: PackBuilder, node: Any, input: Any, dim: Any, other: Any = None, **_: Any) -> Any:
    """Where the operator leaves the members' axis alone it runs as it is, else on an axis in front."""
    x, value = input, node.meta["val"]
    if isinstance(other, PackedValue):
        return pointwise.pack(builder, node)
    if not x.packed:
        return builder.call(node, None)
    dim = None if isinstance(dim, (tuple, list)) and not dim else dim
    over = axes_of(x.ndim, dim)
    first = value if isinstance(value, torch.Tensor) else value[0]
    if x.axis not in over and x.axis != FRONT:
        gone = 0 if first.dim() == x.ndim else sum(axis < x.axis for axis in over)
        return builder.call(node, x.axis - gone)
    if (dim is None and "flattens" in builder.traits) or x.ndim == 0:
        return builder.fallback(node, why="it runs over all axes at once")
    negative = tuple(axis - x.ndim for axis in over)
    along = negative if dim is None or isinstance(dim, (tuple, list)) else negative[0]
    args, kwargs = builder.changed(node, dim=along)
    return builder.back(builder.again(node, _in_front(builder, args, x), _in_front(builder, kwargs, x)), value)


def _in_front(builder: PackBuilder, value: Any, x: PackedValue) -> Any:
    return map_packed_values(value, lambda tensor: builder.front(tensor) if tensor is x else tensor)


def pack_corner(builder: PackBuilder, node: Any, input: Any, **_: Any) -> Any:
    """triu, tril: of the last two axes, wherever the members are not on these."""
    x = input
    if x.packed and (x.axis == FRONT or x.axis >= x.ndim - 2):
        args, kwargs = builder.values(node)
        return builder.back(builder.again(node, _in_front(builder, args, x), _in_front(builder, kwargs, x)), node.meta["val"])
    return builder.call(node, x.axis)


def pack_first_axis(builder: PackBuilder, node: Any, input: Any) -> Any:
    """msort: along the first axis."""
    x = input
    if x.packed and x.axis in (0, FRONT):
        if x.ndim < 2:
            return builder.fallback(node)
        x = builder.to(x, 1)
    return builder.call(node, x.axis, input=x)
