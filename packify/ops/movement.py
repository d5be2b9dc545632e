"""Operators that move or repeat whole axes: permute, expand, repeat, unfold, shuffles."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from packify.nn.members import FRONT
from packify.ops.sizes import meet_sizes, resized, size_as_read, sizes_given
from packify.packing.builder import PackBuilder, PackedValue, packed_values_in
from packify.widths.dims import Dim, fixed, free, product, quotient
from packify.widths.matching import equal_share
from packify.widths.propagation import Axes, Call, WidthPropagation


def permutation(op: str, ndim: int, arguments: Mapping[str, Any]) -> list[int]:
    """Which input axis each output axis is."""
    order = list(range(ndim))
    if op == "permute":
        return [axis % ndim for axis in arguments["dims"]]
    if op == "movedim":
        moved = torch.empty([0] * ndim, device="meta")
        for axis in range(ndim):  # follow each axis through torch's own arithmetic
            shape = [1] * ndim
            shape[axis] = 2
            order[list(moved.new_empty(shape).movedim(arguments["source"], arguments["destination"]).shape).index(2)] = axis
        return order
    if ndim < 2 or op == "T":
        return order[::-1]
    a, b = (arguments.get(name, default) for name, default in (("dim0", -2), ("dim1", -1)))
    order[a % ndim], order[b % ndim] = order[b % ndim], order[a % ndim]
    return order


def permute(widths: WidthPropagation, input: Axes, **arguments: Any) -> list[Dim]:
    return [input.dims[axis] for axis in permutation(widths.node.meta["op"], len(input.dims), arguments)]


def expand(widths: WidthPropagation, input: Axes, other: Axes | None = None, **_: Any) -> list[Dim]:
    """Expand and broadcast_to sizes; expand_as another tensor, whose axes it then has."""
    x = input
    lead = widths.out.dim() - len(x.dims)
    dims = []
    for axis, size in enumerate(widths.out.shape):
        own = x.dims[axis - lead] if axis >= lead else None
        if own is None or own.root().size != size:
            own = free(size) if size != 1 else fixed(1)
        if other is not None:
            widths.equate(own, other.dims[axis])
        dims.append(own)
    if widths.node.meta["op"] == "expand":
        meet_sizes(widths, dims, "shape")
    return dims


def repeat(widths: WidthPropagation, input: Axes, **_: Any) -> list[Dim]:
    """A count read from a tensor's shape is that axis, outermost; an axis of one that is repeated is as long as what it meets."""
    x = input
    lead = widths.out.dim() - len(x.dims)
    counts = sizes_given(widths, "repeats") or [None] * widths.out.dim()
    dims = []
    for axis, (size, count) in enumerate(zip(widths.out.shape, counts, strict=True)):
        own = x.dims[axis - lead] if axis >= lead else fixed(1)
        times = size // own.root().size
        known = size_as_read(widths, count)
        outer = known if known is not None and known.root().size == times else free(times) if own.root().size == 1 else fixed(times)
        dims.append(own if times == 1 else product([outer, own]))
    return dims


def refit_repeat(call: Call, repeats: Sequence[Any], **_: Any) -> dict[str, Any]:
    """The counts that make the member's shape."""
    if len(repeats) != len(call.shape):
        return {}
    own = [1] * (len(repeats) - call.values["input"].dim()) + list(call.values["input"].shape)
    wanted = [size // max(before, 1) for size, before in zip(call.shape, own, strict=True)]
    known = call.values["repeats"]
    fitted = tuple(
        count if value == times else resized(count, value, times) for count, value, times in zip(repeats, known, wanted, strict=True)
    )
    return {} if fitted == tuple(repeats) else {"repeats": fitted}


def repeat_interleave(widths: WidthPropagation, input: Axes | None, repeats: Any, dim: int | None, **_: Any) -> list[Dim]:
    if input is None or dim is None or not isinstance(repeats, int):
        widths.pin_all((input, repeats), "it is repeated element by element")
        return [fixed(size) for size in widths.out.shape]
    dims = list(input.dims)
    dims[dim] = product([dims[dim], fixed(repeats)])
    return dims


def columns(widths: WidthPropagation, input: Axes, dimension: int | None, size: int | None, **_: Any) -> list[Dim]:
    """F.unfold, ``b c h w -> b (c k) l``; and Tensor.unfold, windows of one axis, which shares its name."""
    if dimension is not None and size is not None:
        dims = list(input.dims)
        axis = dimension % len(dims)
        widths.pin(dims[axis], "windows slide over it")
        dims[axis] = fixed(widths.out.shape[axis])
        return [*dims, fixed(size)]
    for dim in input.dims[2:]:
        widths.pin(dim, "a spatial axis")
    return [input.dims[0], product([input.dims[1], fixed(widths.out.shape[1] // input.shape[1])]), fixed(widths.out.shape[2])]


def image_of(widths: WidthPropagation, input: Axes, **_: Any) -> list[Dim]:
    """F.fold: ``b (c k) l -> b c h w``."""
    kernel = input.shape[1] // widths.out.shape[1]
    channels = equal_share(input.dims[1], kernel, widths.reason("the cells of a window"))
    widths.pin(input.dims[2], "the places of a window")
    return [input.dims[0], channels, *(fixed(size) for size in widths.out.shape[2:])]


def pixel_shuffle(widths: WidthPropagation, input: Axes, **_: Any) -> list[Dim]:
    before, after = input.shape[-3], widths.out.shape[-3]
    for dim in input.dims[-2:]:
        widths.pin(dim, "a spatial axis")
    if before >= after:
        channels = equal_share(input.dims[-3], before // after, widths.reason("the cells that become pixels"))
    else:
        channels = product([input.dims[-3], fixed(after // before)])
    return [*input.dims[:-3], channels, *(fixed(size) for size in widths.out.shape[-2:])]


def channel_shuffle(widths: WidthPropagation, input: Axes, groups: int) -> list[Dim]:
    quotient(input.dims[1], groups)
    return input.dims


# -- how members are packed --------------------------------------------------------------------------------------------


def sizes_of(builder: PackBuilder, tensor: PackedValue) -> list[Any]:
    """The member's sizes of a tensor at run time."""
    return [member_size(builder, tensor, axis) for axis in range(tensor.ndim)]


def member_size(builder: PackBuilder, tensor: PackedValue, axis: int) -> Any:
    """One member's size along an axis: what `size` returned in the member."""
    axis %= max(tensor.ndim, 1)
    node = builder.method("size", tensor, axis + (tensor.axis == FRONT))
    return builder.emit(operator.floordiv, node, builder.members) if tensor.axis == axis else node


def pack_permute(builder: PackBuilder, node: Any, input: Any, **arguments: Any) -> Any:
    if not input.packed:
        return builder.call(node, None)
    if input.axis == FRONT:
        return builder.fallback(node)
    return builder.call(node, permutation(node.meta["op"], input.ndim, arguments).index(input.axis))


def pack_expand(builder: PackBuilder, node: Any, input: Any, shape: Sequence[Any] = (), other: Any = None) -> Any:
    """Expand and broadcast_to, or expand_as another tensor."""
    x, value = input, node.meta["val"]
    if not x.packed and not (other is not None and other.packed):
        return builder.call(node, None)
    sizes = list(shape) if other is None else sizes_of(builder, other)
    if not x.packed:
        return builder.result(builder.emit(torch.Tensor.expand, x, tuple(sizes)), value, None)
    lead = value.dim() - x.ndim
    if x.axis != FRONT and x.shape[x.axis] == value.shape[x.axis + lead]:
        sizes[x.axis + lead] = -1
        return builder.result(builder.emit(torch.Tensor.expand, x, tuple(sizes)), value, x.axis + lead)
    return builder.back(builder.emit(torch.Tensor.expand, builder.front(x, value.dim()), (builder.members, *sizes)), value)


def pack_repeat(builder: PackBuilder, node: Any, input: Any, repeats: Sequence[Any]) -> Any:
    x = input
    if not x.packed:
        return builder.call(node, None)
    counts = [1] * (x.ndim - len(repeats)) + list(repeats)
    lead = len(counts) - x.ndim
    if x.axis != FRONT and counts[x.axis + lead] == 1:
        return builder.result(builder.emit(torch.Tensor.repeat, x, tuple(counts)), node.meta["val"], x.axis + lead)
    return builder.back(builder.emit(torch.Tensor.repeat, builder.front(x, len(counts)), (1, *counts)), node.meta["val"])


def pack_repeat_interleave(builder: PackBuilder, node: Any, input: Any, repeats: Any, dim: int | None, **_: Any) -> Any:
    if not any(tensor.packed for tensor in packed_values_in((input, repeats))):
        return builder.call(node, None)
    if input is None or dim is None or isinstance(repeats, PackedValue) or input.axis == FRONT:
        return builder.fallback(node)
    return builder.call(node, input.axis)


def pack_windows(builder: PackBuilder, node: Any, input: Any, dimension: Any = None, **_: Any) -> Any:
    """Windows, unfold and fold: images in ``b (m c) h w`` or ``(m b) c h w``; windows of one axis wherever the members are not."""
    x = input
    if not x.packed:
        return builder.call(node, None)
    if dimension is not None:
        if x.axis == dimension % x.ndim or x.axis == FRONT:
            x = builder.to(x, 0 if dimension % x.ndim else 1)
    elif x.axis not in (0, 1) or x.ndim < 3:
        x = builder.to(x, 0)
    return builder.call(node, x.axis, input=x)


def pack_batchwise(builder: PackBuilder, node: Any, input: Any, **_: Any) -> Any:
    """Operators that know nothing but a batch: the members are in it."""
    return builder.call(node, 0, input=builder.to(input, 0)) if input.packed else builder.call(node, None)


def pack_shuffle(builder: PackBuilder, node: Any, input: Any, **_: Any) -> Any:
    """pixel_shuffle, ``... (c r r) h w -> ... c (h r) (w r)``: right wherever the members are not on the image's axes."""
    x = builder.to(input, 0) if input.packed and (input.axis == FRONT or input.axis >= input.ndim - 2) else input
    return builder.call(node, x.axis, input=x)
