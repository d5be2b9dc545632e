"""Operators that join or cut along an axis: cat, stack, split, chunk, unbind, padding, gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from packify.nn.members import FRONT
from packify.ops.probing import by_example
from packify.packing.builder import PackBuilder, PackedValue
from packify.widths.dims import Dim, fixed, free, total
from packify.widths.matching import equal_share, read_elements, split_total, summands
from packify.widths.propagation import Axes, Call, WidthPropagation


def cat(widths: WidthPropagation, tensors: Sequence[Axes], dim: int) -> list[Dim]:
    parts = [axes for axes in tensors if axes.val.dim() == widths.out.dim()]
    axis = dim % widths.out.dim()
    first = parts[0]
    for other in parts[1:]:
        for position, (a, b) in enumerate(zip(first.dims, other.dims, strict=True)):
            if position != axis:
                widths.equate(a, b)
    joined = total([axes.dims[axis] for axes in parts if axes.shape[axis]])
    return [*first.dims[:axis], joined, *first.dims[axis + 1 :]]


def cat_axis(op: str, ndim: int) -> int:
    """The axis along which hstack, vstack and dstack join tensors of `ndim` axes; -1 where they add axes first."""
    axis = {"vstack": 0, "row_stack": 0, "hstack": 1, "column_stack": 1, "dstack": 2}[op]
    return axis if ndim > max(axis, 1) else -1


def cat_by_name(widths: WidthPropagation, tensors: Sequence[Axes]) -> Any:
    """hstack, vstack, dstack of tensors that have the axis already."""
    axis = cat_axis(widths.node.meta["op"], min(axes.val.dim() for axes in tensors))
    return by_example(widths) if axis < 0 else cat(widths, tensors, axis)


def stack(widths: WidthPropagation, tensors: Sequence[Axes], dim: int) -> list[Dim]:
    dims = widths.broadcast(*tensors)
    dims.insert(dim % widths.out.dim(), fixed(len(tensors)))
    return dims


def pieces(widths: WidthPropagation, input: Axes, dim: int, **_: Any) -> tuple[list[Dim], ...]:
    """split, chunk, tensor_split: equal pieces are factors of the axis, unequal ones its summands."""
    axis = dim % len(input.dims)
    sizes = [piece.shape[axis] for piece in widths.out]
    own = input.dims[axis]
    if len(set(sizes)) == 1 and not own.is_pinned():
        if len(sizes) > 1 and sizes[0] == 1:
            widths.pin(own, "it is taken apart element by element")
            read_elements(own)
        joined = summands(own, sizes) or []
        for other in joined[1:]:
            widths.equate(joined[0], other)
        inner = (
            joined[0] if joined else equal_share(own, len(sizes), widths.reason("a number of equal pieces")) if sizes[0] > 1 else fixed(1)
        )
        parts = [inner] * len(sizes)
    else:
        parts = split_total(own, sizes, widths.reason("it is cut into pieces"))
    return tuple([*input.dims[:axis], part, *input.dims[axis + 1 :]] for part in parts)


def unbind(widths: WidthPropagation, input: Axes, dim: int) -> tuple[list[Dim], ...]:
    axis = dim % len(input.dims)
    widths.pin(input.dims[axis], "it is taken apart element by element")
    read_elements(input.dims[axis])
    rest = [*input.dims[:axis], *input.dims[axis + 1 :]]
    return tuple(rest for _ in widths.out)


def pad(widths: WidthPropagation, input: Axes, pad: Any, **_: Any) -> list[Dim]:
    dims = list(input.dims)
    for position in range(len(pad) // 2):
        axis = len(dims) - 1 - position
        before, after = pad[2 * position], pad[2 * position + 1]
        if before == after == 0:
            continue
        if dims[axis].is_pinned() or before < 0 or after < 0:
            widths.pin(dims[axis], "it is padded")
            dims[axis] = fixed(widths.out.shape[axis])
        else:
            parts = (free(before), dims[axis], free(after))
            widths.cut(axis, *parts)
            dims[axis] = total([part for part in parts if part.root().size])
    return dims


def glu(widths: WidthPropagation, input: Axes, dim: int) -> list[Dim]:
    axis = dim % len(input.dims)
    inner = equal_share(input.dims[axis], 2, widths.reason("the two halves of a gate"))
    return [*input.dims[:axis], inner, *input.dims[axis + 1 :]]


# -- refitting -----------------------------------------------------------------------------------------------------------


def refit_split(call: Call, **_: Any) -> dict[str, Any]:
    """split(size or sizes) at the member's sizes."""
    given = call.values["pieces"]
    sizes = [shape[call.values["dim"]] for shape in call.shape]
    several = isinstance(given, (tuple, list))
    wanted: Any = sizes if several else sizes[0]
    return {} if (list(given) if several else given) == wanted else {"pieces": wanted}


def refit_pad(call: Call, pad: Any, **_: Any) -> dict[str, Any]:
    amounts = list(pad)
    for axis, (before, _length, after) in call.cuts.items():
        position = len(call.shape) - 1 - axis
        amounts[2 * position], amounts[2 * position + 1] = before, after
    return {"pad": tuple(amounts)}


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_cat(builder: PackBuilder, node: Any, tensors: Any, dim: int) -> Any:
    """Joined on the members' own axis, tensors are interleaved member by member."""
    value = node.meta["val"]
    tensors = [tensor for tensor in tensors if tensor.ndim == value.dim()]
    if not any(tensor.packed for tensor in tensors):
        return builder.call(node, None)
    wish = builder.meet(tensors, value)
    axis = joint_axis(tensors, prefer_not=dim % value.dim()) if wish is None else wish
    aligned = [builder.to(tensor, axis) for tensor in tensors]
    if axis == dim % value.dim():
        return builder.result(builder.cat(aligned, axis), value, axis)
    return builder.result(builder.emit(torch.cat, aligned, dim), value, axis)


def pack_cat_by_name(builder: PackBuilder, node: Any, tensors: Any) -> Any:
    axis = cat_axis(node.meta["op"], min(tensor.ndim for tensor in tensors))
    return builder.fallback(node) if axis < 0 else pack_cat(builder, node, tensors, axis)


def joint_axis(tensors: list[PackedValue], prefer_not: int) -> int:
    """The axis on which most packed tensors have their members, weighted by size."""
    votes: dict[int, int] = {}
    for tensor in tensors:
        if tensor.axis is not None and tensor.axis != FRONT:
            votes[tensor.axis] = votes.get(tensor.axis, 0) + tensor.val.numel()
    return max(votes, key=lambda axis: (votes[axis], axis != prefer_not)) if votes else 0


def pack_stack(builder: PackBuilder, node: Any, tensors: Any, dim: int) -> Any:
    value = node.meta["val"]
    tensors = list(tensors)
    if not any(tensor.packed for tensor in tensors):
        return builder.call(node, None)
    if tensors[0].ndim == 0:
        return builder.fallback(node)
    axis, position = joint_axis(tensors, prefer_not=-1), dim % value.dim()
    aligned = [builder.to(tensor, axis) for tensor in tensors]
    return builder.result(builder.emit(torch.stack, aligned, position), value, axis + (position <= axis))


def pack_pieces(builder: PackBuilder, node: Any, input: Any, pieces: Any, dim: int) -> Any:
    """split, chunk, tensor_split: pieces of each member's share."""
    if not input.packed:
        return builder.call(node, None)
    dim %= input.ndim
    if input.axis not in (dim, FRONT):
        return builder.call(node, input.axis)
    made = builder.emit(getattr(torch, node.meta["op"]), builder.front(input), pieces, dim - input.ndim)
    return builder.back(made, node.meta["val"])


def pack_unbind(builder: PackBuilder, node: Any, input: Any, dim: int) -> Any:
    if not input.packed:
        return builder.call(node, None)
    dim %= input.ndim
    if input.axis not in (dim, FRONT):
        return builder.call(node, input.axis - (dim < input.axis))
    return builder.back(builder.emit(torch.unbind, builder.front(input), dim - input.ndim), node.meta["val"])


def pack_pad(builder: PackBuilder, node: Any, input: Any, pad: Any, **_: Any) -> Any:
    x = input
    if not x.packed:
        return builder.call(node, None)
    padded = {x.ndim - 1 - position for position in range(len(pad) // 2) if (pad[2 * position], pad[2 * position + 1]) != (0, 0)}
    if x.axis in padded or x.axis == FRONT:
        free_axis = next((axis for axis in range(x.ndim) if axis not in padded), None)
        if free_axis is None:
            return builder.fallback(node)
        x = builder.to(x, free_axis)
    return builder.call(node, x.axis, input=x)


def pack_glu(builder: PackBuilder, node: Any, input: Any, dim: int) -> Any:
    axis = dim % input.ndim
    if not input.packed or input.axis not in (axis, FRONT):
        return builder.call(node, input.axis)
    return builder.back(builder.emit(torch.nn.functional.glu, builder.front(input), axis - input.ndim), node.meta["val"])
