"""Operators that join or cut along an axis: cat, stack, split, chunk, unbind, padding, gates."""

from __future__ import annotations

from typing import Any

import torch

from packify.nn.members import FRONT
from packify.ops.probing import by_example
from packify.packing.builder import PackBuilder, PackedValue
from packify.widths.dims import Dim, fixed, free, total
from packify.widths.matching import equal_share, split_total, summands
from packify.widths.propagation import Axes, Call, WidthPropagation


def cat(widths: WidthPropagation, tensors: Any, dim: int = 0, **kwargs: Any) -> list[Dim]:
    dim = kwargs.get("axis", dim)
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


def cat_by_name(widths: WidthPropagation, tensors: Any) -> Any:
    """hstack, vstack, dstack of tensors that have the axis already."""
    axis = cat_axis(widths.node.meta["op"], min(axes.val.dim() for axes in tensors))
    return by_example(widths, tensors) if axis < 0 else cat(widths, tensors, axis)


def stack(widths: WidthPropagation, tensors: Any, dim: int = 0, **kwargs: Any) -> list[Dim]:
    dims = widths.broadcast(*tensors)
    dims.insert(dim % widths.out.dim(), fixed(len(tensors)))
    return dims


def pieces(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> tuple[list[Dim], ...]:
    """split, chunk, tensor_split: equal pieces are factors of the axis, unequal ones its summands."""
    axis = cut_axis(widths.node.meta["op"], args, kwargs) % len(x.dims)
    sizes = [piece.shape[axis] for piece in widths.out]
    dim = x.dims[axis]
    if len(set(sizes)) == 1 and not dim.is_pinned():
        if len(sizes) > 1 and sizes[0] == 1:
            widths.pin(dim, "it is taken apart element by element")
        joined = summands(dim, sizes) or []
        for other in joined[1:]:
            widths.equate(joined[0], other)
        inner = (
            joined[0] if joined else equal_share(dim, len(sizes), widths.reason("a number of equal pieces")) if sizes[0] > 1 else fixed(1)
        )
        parts = [inner] * len(sizes)
    else:
        parts = split_total(dim, sizes, widths.reason("it is cut into pieces"))
    return tuple([*x.dims[:axis], part, *x.dims[axis + 1 :]] for part in parts)


def cut_axis(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """The axis that split, chunk or unbind works along."""
    position = 0 if op == "unbind" else 1
    return int(kwargs.get("dim", args[position] if len(args) > position else 0))


def unbind(widths: WidthPropagation, x: Axes, dim: int = 0) -> tuple[list[Dim], ...]:
    axis = dim % len(x.dims)
    widths.pin(x.dims[axis], "it is taken apart element by element")
    rest = [*x.dims[:axis], *x.dims[axis + 1 :]]
    return tuple(rest for _ in widths.out)


def pad(widths: WidthPropagation, x: Axes, pad: Any, *args: Any, **kwargs: Any) -> list[Dim]:
    dims = list(x.dims)
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


def glu(widths: WidthPropagation, x: Axes, dim: int = -1) -> list[Dim]:
    axis = dim % len(x.dims)
    inner = equal_share(x.dims[axis], 2, widths.reason("the two halves of a gate"))
    return [*x.dims[:axis], inner, *x.dims[axis + 1 :]]


# -- refitting -----------------------------------------------------------------------------------------------------------


def refit_split(args: Any, kwargs: Any, call: Call) -> Any:
    """split(size or sizes) at the member's sizes."""
    axis = cut_axis("split", call.values[1:], call.keywords)
    sizes = [shape[axis] for shape in call.shape]
    given = call.values[1] if len(args) > 1 else next(iter(call.keywords.values()))
    wanted: Any = sizes if isinstance(given, (tuple, list)) else sizes[0]
    if (list(given) if isinstance(given, (tuple, list)) else given) == wanted:
        return args, kwargs
    return (args[0], wanted), {"dim": axis}


def refit_pad(args: Any, kwargs: Any, call: Call) -> Any:
    amounts = list(args[1] if len(args) > 1 else kwargs["pad"])
    for axis, (before, _, after) in call.cuts.items():
        position = len(call.shape) - 1 - axis
        amounts[2 * position], amounts[2 * position + 1] = before, after
    return (args[0], tuple(amounts), *args[2:]), {key: value for key, value in kwargs.items() if key != "pad"}


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_cat(builder: PackBuilder, node: Any, tensors: Any, dim: int = 0, **kwargs: Any) -> Any:
    """Joined on the members' own axis, tensors are interleaved member by member."""
    value = node.meta["val"]
    dim = kwargs.get("axis", dim)
    tensors = [tensor for tensor in tensors if tensor.ndim == value.dim()]
    if not any(tensor.packed for tensor in tensors):
        return builder.native(node, (tensors, dim), {}, None)
    axis = joint_axis(tensors, prefer_not=dim % value.dim())
    aligned = [builder.to(tensor, axis) for tensor in tensors]
    if axis == dim % value.dim():
        return builder.result(builder.cat(aligned, axis), value, axis)
    return builder.result(builder.emit(torch.cat, aligned, dim), value, axis)


def pack_cat_by_name(builder: PackBuilder, node: Any, tensors: Any) -> Any:
    axis = cat_axis(node.meta["op"], min(tensor.ndim for tensor in tensors))
    return builder.fallback(node, (tensors,), {}) if axis < 0 else pack_cat(builder, node, tensors, axis)


def joint_axis(tensors: list[PackedValue], prefer_not: int) -> int:
    """The axis on which most packed tensors have their members, weighted by size."""
    votes: dict[int, int] = {}
    for tensor in tensors:
        if tensor.axis is not None and tensor.axis != FRONT:
            votes[tensor.axis] = votes.get(tensor.axis, 0) + tensor.val.numel()
    return max(votes, key=lambda axis: (votes[axis], axis != prefer_not)) if votes else 0


def pack_stack(builder: PackBuilder, node: Any, tensors: Any, dim: int = 0, **kwargs: Any) -> Any:
    value = node.meta["val"]
    tensors = list(tensors)
    if not any(tensor.packed for tensor in tensors):
        return builder.native(node, (tensors, dim), kwargs, None)
    if tensors[0].ndim == 0:
        return builder.fallback(node, (tensors, dim), kwargs)
    axis, position = joint_axis(tensors, prefer_not=-1), dim % value.dim()
    aligned = [builder.to(tensor, axis) for tensor in tensors]
    return builder.result(builder.emit(torch.stack, aligned, position), value, axis + (position <= axis))


def pack_pieces(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """split, chunk, tensor_split: pieces of each member's share."""
    if not x.packed:
        return builder.native(node, (x, *args), kwargs, None)
    op, value = node.meta["op"], node.meta["val"]
    dim = cut_axis(op, args, kwargs) % x.ndim
    if x.axis not in (dim, FRONT):
        return builder.native(node, (x, *args), kwargs, x.axis)
    first = args[:1] or tuple(item for key, item in kwargs.items() if key != "dim")[:1]
    cut = getattr(torch, op)
    made = builder.emit(cut, builder.front(x), *first, dim - x.ndim)
    return builder.back(made, value)


def pack_unbind(builder: PackBuilder, node: Any, x: Any, dim: int = 0) -> Any:
    if not x.packed:
        return builder.native(node, (x, dim), {}, None)
    dim %= x.ndim
    if x.axis not in (dim, FRONT):
        return builder.native(node, (x, dim), {}, x.axis - (dim < x.axis))
    return builder.back(builder.emit(torch.unbind, builder.front(x), dim - x.ndim), node.meta["val"])


def pack_pad(builder: PackBuilder, node: Any, x: Any, pad: Any, *args: Any, **kwargs: Any) -> Any:
    if not x.packed:
        return builder.native(node, (x, pad, *args), kwargs, None)
    padded = {x.ndim - 1 - position for position in range(len(pad) // 2) if (pad[2 * position], pad[2 * position + 1]) != (0, 0)}
    if x.axis in padded or x.axis == FRONT:
        free_axis = next((axis for axis in range(x.ndim) if axis not in padded), None)
        if free_axis is None:
            return builder.fallback(node, (x, pad, *args), kwargs)
        x = builder.to(x, free_axis)
    return builder.native(node, (x, pad, *args), kwargs, x.axis)


def pack_glu(builder: PackBuilder, node: Any, x: Any, dim: int = -1) -> Any:
    if not x.packed or x.axis not in (dim % x.ndim, FRONT):
        return builder.native(node, (x, dim), {}, x.axis)
    return builder.back(builder.emit(torch.nn.functional.glu, builder.front(x), dim % x.ndim - x.ndim), node.meta["val"])
