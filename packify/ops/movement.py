"""Operators that move or repeat whole axes: permute, expand, repeat, unfold, shuffles."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch

from packify.nn.members import FRONT
from packify.ops.sizes import meet_sizes, resized, size_as_read, sizes_given
from packify.packing.builder import PackBuilder, PackedValue, map_packed_values, packed_values_in
from packify.widths.dims import Dim, fixed, free, product, quotient
from packify.widths.matching import equal_share
from packify.widths.propagation import Axes, Call, WidthPropagation


def permutation(op: str, ndim: int, args: Sequence[Any], kwargs: dict[str, Any]) -> list[int]:
    """Which input axis each output axis is."""
    order = list(range(ndim))
    if op == "permute":
        dims = kwargs.get("dims", args[0] if args and isinstance(args[0], (tuple, list)) else args)
        return [axis % ndim for axis in dims]
    if op in ("transpose", "t", "T", "mT", "adjoint", "H", "mH"):
        if op == "transpose":
            a, b = (*args, *(kwargs[key] for key in ("dim0", "dim1", "axis0", "axis1") if key in kwargs))[:2]
        else:
            a, b = (-2, -1)
        if ndim > 1:
            if op == "T":
                return order[::-1]
            order[a % ndim], order[b % ndim] = order[b % ndim], order[a % ndim]
        return order
    source: Any = kwargs.get("source", args[0] if args else None)
    destination: Any = kwargs.get("destination", args[1] if len(args) > 1 else None)
    moved = torch.empty([0] * ndim, device="meta")
    for axis in range(ndim):  # movedim: follow each axis through torch's own arithmetic
        shape = [1] * ndim
        shape[axis] = 2
        order[list(moved.new_empty(shape).movedim(source, destination).shape).index(2)] = axis
    return order


def permute(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    return [x.dims[axis] for axis in permutation(widths.node.meta["op"], len(x.dims), args, kwargs)]


def expand(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    lead = widths.out.dim() - len(x.dims)
    dims = []
    for axis, size in enumerate(widths.out.shape):
        own = x.dims[axis - lead] if axis >= lead else None
        dims.append(own if own is not None and own.root().size == size else free(size) if size != 1 else fixed(1))
    if widths.node.meta["op"] == "expand":
        meet_sizes(widths, dims)
    return dims


def repeat(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    """A count read from a tensor's shape is that axis, outermost; an axis of one that is repeated is as long as what it meets."""
    lead = widths.out.dim() - len(x.dims)
    counts = sizes_given(widths.node) or [None] * widths.out.dim()
    dims = []
    for axis, (size, count) in enumerate(zip(widths.out.shape, counts, strict=True)):
        own = x.dims[axis - lead] if axis >= lead else fixed(1)
        times = size // own.root().size
        known = size_as_read(widths, count)
        outer = known if known is not None and known.root().size == times else free(times) if own.root().size == 1 else fixed(times)
        dims.append(own if times == 1 else product([outer, own]))
    return dims


def refit_repeat(args: Any, kwargs: Any, call: Call) -> Any:
    """The counts that make the member's shape."""
    nested = len(args) == 2 and isinstance(args[1], (tuple, list))
    counts, known = (args[1], call.values[1]) if nested else (args[1:], call.values[1:])
    if kwargs or len(counts) != len(call.shape):
        return args, kwargs
    own = [1] * (len(counts) - call.values[0].dim()) + list(call.values[0].shape)
    wanted = [size // max(before, 1) for size, before in zip(call.shape, own, strict=True)]
    fitted = tuple(
        count if value == times else resized(count, value, times) for count, value, times in zip(counts, known, wanted, strict=True)
    )
    return (args[0], fitted), kwargs


def repeat_interleave(widths: WidthPropagation, x: Axes, repeats: Any = None, dim: int | None = None, **kwargs: Any) -> list[Dim]:
    repeats = repeats if repeats is not None else kwargs.get("repeats")
    if dim is None or not isinstance(repeats, int):
        widths.pin_all(x, "it is repeated element by element")
        return [fixed(size) for size in widths.out.shape]
    dims = list(x.dims)
    dims[dim] = product([dims[dim], fixed(repeats)])
    return dims


def sliding(widths: WidthPropagation, x: Axes, dimension: int, size: int, step: int) -> list[Dim]:
    """Tensor.unfold: windows of one axis."""
    dims = list(x.dims)
    axis = dimension % len(dims)
    widths.pin(dims[axis], "windows slide over it")
    dims[axis] = fixed(widths.out.shape[axis])
    return [*dims, fixed(size)]


def columns(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    """F.unfold, ``b c h w -> b (c k) l``; and Tensor.unfold, which shares its name."""
    if widths.out.dim() == len(x.dims) + 1:
        return sliding(widths, x, *args, **kwargs)
    for dim in x.dims[2:]:
        widths.pin(dim, "a spatial axis")
    return [x.dims[0], product([x.dims[1], fixed(widths.out.shape[1] // x.shape[1])]), fixed(widths.out.shape[2])]


def image_of(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    """F.fold: ``b (c k) l -> b c h w``."""
    kernel = x.shape[1] // widths.out.shape[1]
    channels = equal_share(x.dims[1], kernel, widths.reason("the cells of a window"))
    return [x.dims[0], channels, *(fixed(size) for size in widths.out.shape[2:])]


def pixel_shuffle(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    before, after = x.shape[-3], widths.out.shape[-3]
    if before >= after:
        channels = equal_share(x.dims[-3], before // after, widths.reason("the cells that become pixels"))
    else:
        channels = product([x.dims[-3], fixed(after // before)])
    return [*x.dims[:-3], channels, *(fixed(size) for size in widths.out.shape[-2:])]


def channel_shuffle(widths: WidthPropagation, x: Axes, groups: int) -> list[Dim]:
    quotient(x.dims[1], groups)
    return x.dims


# -- how members are packed --------------------------------------------------------------------------------------------


def sizes_of(builder: PackBuilder, tensor: PackedValue) -> list[Any]:
    """The member's sizes of a tensor at run time."""
    return [member_size(builder, tensor, axis) for axis in range(tensor.ndim)]


def member_size(builder: PackBuilder, tensor: PackedValue, axis: int) -> Any:
    """One member's size along an axis: what `size` returned in the member."""
    axis %= max(tensor.ndim, 1)
    node = builder.method("size", tensor, axis + (tensor.axis == FRONT))
    return builder.emit(operator.floordiv, node, builder.members) if tensor.axis == axis else node


def pack_permute(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    if not x.packed:
        return builder.native(node, (x, *args), kwargs, None)
    if x.axis == FRONT:
        return builder.fallback(node, (x, *args), kwargs)
    order = permutation(node.meta["op"], x.ndim, args, kwargs)
    return builder.native(node, (x, *args), kwargs, order.index(x.axis))


def pack_expand(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    if not x.packed:
        if args and isinstance(args[0], PackedValue) and args[0].packed:
            return builder.result(builder.emit(torch.Tensor.expand, x, tuple(sizes_of(builder, args[0]))), node.meta["val"], None)
        return builder.native(node, (x, *args), kwargs, None)
    value = node.meta["val"]
    lead = value.dim() - x.ndim
    if args and isinstance(args[0], PackedValue):
        sizes = sizes_of(builder, args[0])
    else:
        given = kwargs.get("size", args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args)
        sizes = list(given)
    if x.axis != FRONT and x.shape[x.axis] == value.shape[x.axis + lead]:
        sizes[x.axis + lead] = -1
        return builder.result(builder.emit(torch.Tensor.expand, x, tuple(sizes)), value, x.axis + lead)
    return builder.back(builder.emit(torch.Tensor.expand, builder.front(x, value.dim()), (builder.members, *sizes)), value)


def pack_repeat(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    if not x.packed:
        return builder.native(node, (x, *args), kwargs, None)
    given = kwargs.get("repeats", kwargs.get("dims", args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args))
    counts = list(given)
    counts = [1] * (x.ndim - len(counts)) + counts
    lead = len(counts) - x.ndim
    if x.axis != FRONT and counts[x.axis + lead] == 1:
        return builder.result(builder.emit(torch.Tensor.repeat, x, tuple(counts)), node.meta["val"], x.axis + lead)
    return builder.back(builder.emit(torch.Tensor.repeat, builder.front(x, len(counts)), (1, *counts)), node.meta["val"])


def pack_repeat_interleave(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    repeats = kwargs.get("repeats", args[0] if args else None)
    if not x.packed:
        return builder.native(node, (x, *args), kwargs, None)
    if dim is None or isinstance(repeats, PackedValue) or x.axis == FRONT:
        return builder.fallback(node, (x, *args), kwargs)
    return builder.native(node, (x, *args), kwargs, x.axis)


def pack_windows(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Windows, unfold and fold: images in ``b (m c) h w`` or ``(m b) c h w``; windows of one axis wherever the members are not."""
    if not x.packed:
        return builder.native(node, (x, *args), kwargs, None)
    if node.meta["op"] == "unfold" and node.meta["val"].dim() == x.ndim + 1:
        dimension = kwargs.get("dimension", args[0] if args else 0) % x.ndim
        if x.axis == dimension or x.axis == FRONT:
            x = builder.to(x, 0 if dimension else 1)
        return builder.native(node, (x, *args), kwargs, x.axis)
    x = x if x.axis in (0, 1) and x.ndim > 2 else builder.to(x, 0)
    return builder.native(node, (x, *args), kwargs, x.axis)


def pack_batchwise(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Operators that know nothing but a batch: the members are in it."""
    if not any(tensor.packed for tensor in packed_values_in((x, args, kwargs))):
        return builder.native(node, (x, *args), kwargs, None)
    args, kwargs = (map_packed_values(part, lambda tensor: builder.to(tensor, 0)) for part in ((x, *args), kwargs))
    return builder.native(node, args, kwargs, 0)


def pack_shuffle(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """pixel_shuffle, ``... (c r r) h w -> ... c (h r) (w r)``: right wherever the members are not on the image's axes."""
    if x.packed and (x.axis == FRONT or x.axis >= x.ndim - 2):
        x = builder.to(x, 0)
    return builder.native(node, (x, *args), kwargs, x.axis)
