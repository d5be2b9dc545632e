"""Operators that join or cut along an axis: cat, stack, split, chunk, unbind, padding, gates."""

from __future__ import annotations

from typing import Any

import torch

from packify.packing.members import FRONT
from packify.packing.ride import Ride, Rider
from packify.rules.probing import by_example
from packify.widths.dims import Dim, fixed, free, total
from packify.widths.matching import equal_share, split_total, summands
from packify.widths.walk import Axes, Call, Walk


def cat(walk: Walk, tensors: Any, dim: int = 0, **kwargs: Any) -> list[Dim]:
    dim = kwargs.get("axis", dim)
    parts = [axes for axes in tensors if axes.val.dim() == walk.out.dim()]
    axis = dim % walk.out.dim()
    first = parts[0]
    for other in parts[1:]:
        for position, (a, b) in enumerate(zip(first.dims, other.dims, strict=True)):
            if position != axis:
                walk.equate(a, b)
    joined = total([axes.dims[axis] for axes in parts if axes.shape[axis]])
    return [*first.dims[:axis], joined, *first.dims[axis + 1 :]]


def cat_axis(op: str, ndim: int) -> int:
    """The axis along which hstack, vstack and dstack join tensors of `ndim` axes; -1 where they add axes first."""
    axis = {"vstack": 0, "row_stack": 0, "hstack": 1, "column_stack": 1, "dstack": 2}[op]
    return axis if ndim > max(axis, 1) else -1


def cat_by_name(walk: Walk, tensors: Any) -> Any:
    """hstack, vstack, dstack of tensors that have the axis already."""
    axis = cat_axis(walk.node.meta["op"], min(axes.val.dim() for axes in tensors))
    return by_example(walk, tensors) if axis < 0 else cat(walk, tensors, axis)


def stack(walk: Walk, tensors: Any, dim: int = 0, **kwargs: Any) -> list[Dim]:
    dims = walk.broadcast(*tensors)
    dims.insert(dim % walk.out.dim(), fixed(len(tensors)))
    return dims


def pieces(walk: Walk, x: Axes, *args: Any, **kwargs: Any) -> tuple[list[Dim], ...]:
    """split, chunk, tensor_split: equal pieces are factors of the axis, unequal ones its summands."""
    axis = cut_axis(walk.node.meta["op"], args, kwargs) % len(x.dims)
    sizes = [piece.shape[axis] for piece in walk.out]
    dim = x.dims[axis]
    if len(set(sizes)) == 1 and not dim.is_pinned():
        if len(sizes) > 1 and sizes[0] == 1:
            walk.pin(dim, "it is taken apart element by element")
        joined = summands(dim, sizes) or []
        for other in joined[1:]:
            walk.equate(joined[0], other)
        inner = joined[0] if joined else equal_share(dim, len(sizes), walk.reason("a number of equal pieces")) if sizes[0] > 1 else fixed(1)
        parts = [inner] * len(sizes)
    else:
        parts = split_total(dim, sizes, walk.reason("it is cut into pieces"))
    return tuple([*x.dims[:axis], part, *x.dims[axis + 1 :]] for part in parts)


def cut_axis(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """The axis that split, chunk or unbind works along."""
    position = 0 if op == "unbind" else 1
    return int(kwargs.get("dim", args[position] if len(args) > position else 0))


def unbind(walk: Walk, x: Axes, dim: int = 0) -> tuple[list[Dim], ...]:
    axis = dim % len(x.dims)
    walk.pin(x.dims[axis], "it is taken apart element by element")
    rest = [*x.dims[:axis], *x.dims[axis + 1 :]]
    return tuple(rest for _ in walk.out)


def pad(walk: Walk, x: Axes, pad: Any, *args: Any, **kwargs: Any) -> list[Dim]:
    dims = list(x.dims)
    for position in range(len(pad) // 2):
        axis = len(dims) - 1 - position
        before, after = pad[2 * position], pad[2 * position + 1]
        if before == after == 0:
            continue
        if dims[axis].is_pinned() or before < 0 or after < 0:
            walk.pin(dims[axis], "it is padded")
            dims[axis] = fixed(walk.out.shape[axis])
        else:
            parts = (free(before), dims[axis], free(after))
            walk.cut(axis, *parts)
            dims[axis] = total([part for part in parts if part.root().size])
    return dims


def glu(walk: Walk, x: Axes, dim: int = -1) -> list[Dim]:
    axis = dim % len(x.dims)
    inner = equal_share(x.dims[axis], 2, walk.reason("the two halves of a gate"))
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


# -- how members ride ----------------------------------------------------------------------------------------------------


def ride_cat(rider: Rider, node: Any, tensors: Any, dim: int = 0, **kwargs: Any) -> Any:
    """Joined on the members' own axis, tensors are interleaved member by member."""
    value = node.meta["val"]
    dim = kwargs.get("axis", dim)
    tensors = [ride for ride in tensors if ride.ndim == value.dim()]
    if not any(ride.packed for ride in tensors):
        return rider.native(node, (tensors, dim), {}, None)
    axis = joint_axis(tensors, prefer_not=dim % value.dim())
    aligned = [rider.to(ride, axis) for ride in tensors]
    if axis == dim % value.dim():
        return rider.result(rider.cat(aligned, axis), value, axis)
    return rider.result(rider.emit(torch.cat, aligned, dim), value, axis)


def ride_cat_by_name(rider: Rider, node: Any, tensors: Any) -> Any:
    axis = cat_axis(node.meta["op"], min(ride.ndim for ride in tensors))
    return rider.fallback(node, (tensors,), {}) if axis < 0 else ride_cat(rider, node, tensors, axis)


def joint_axis(tensors: list[Ride], prefer_not: int) -> int:
    """The axis on which most packed tensors have their members, weighted by size."""
    votes: dict[int, int] = {}
    for ride in tensors:
        if ride.axis is not None and ride.axis != FRONT:
            votes[ride.axis] = votes.get(ride.axis, 0) + ride.val.numel()
    return max(votes, key=lambda axis: (votes[axis], axis != prefer_not)) if votes else 0


def ride_stack(rider: Rider, node: Any, tensors: Any, dim: int = 0, **kwargs: Any) -> Any:
    value = node.meta["val"]
    tensors = list(tensors)
    if not any(ride.packed for ride in tensors):
        return rider.native(node, (tensors, dim), kwargs, None)
    if tensors[0].ndim == 0:
        return rider.fallback(node, (tensors, dim), kwargs)
    axis, position = joint_axis(tensors, prefer_not=-1), dim % value.dim()
    aligned = [rider.to(ride, axis) for ride in tensors]
    return rider.result(rider.emit(torch.stack, aligned, position), value, axis + (position <= axis))


def ride_pieces(rider: Rider, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """split, chunk, tensor_split: pieces of each member's share."""
    if not x.packed:
        return rider.native(node, (x, *args), kwargs, None)
    op, value = node.meta["op"], node.meta["val"]
    dim = cut_axis(op, args, kwargs) % x.ndim
    if x.axis not in (dim, FRONT):
        return rider.native(node, (x, *args), kwargs, x.axis)
    first = args[:1] or tuple(item for key, item in kwargs.items() if key != "dim")[:1]
    cut = getattr(torch, op)
    made = rider.emit(cut, rider.front(x), *first, dim - x.ndim)
    return rider.back(made, value)


def ride_unbind(rider: Rider, node: Any, x: Any, dim: int = 0) -> Any:
    if not x.packed:
        return rider.native(node, (x, dim), {}, None)
    dim %= x.ndim
    if x.axis not in (dim, FRONT):
        return rider.native(node, (x, dim), {}, x.axis - (dim < x.axis))
    return rider.back(rider.emit(torch.unbind, rider.front(x), dim - x.ndim), node.meta["val"])


def ride_pad(rider: Rider, node: Any, x: Any, pad: Any, *args: Any, **kwargs: Any) -> Any:
    if not x.packed:
        return rider.native(node, (x, pad, *args), kwargs, None)
    padded = {x.ndim - 1 - position for position in range(len(pad) // 2) if (pad[2 * position], pad[2 * position + 1]) != (0, 0)}
    if x.axis in padded or x.axis == FRONT:
        free_axis = next((axis for axis in range(x.ndim) if axis not in padded), None)
        if free_axis is None:
            return rider.fallback(node, (x, pad, *args), kwargs)
        x = rider.to(x, free_axis)
    return rider.native(node, (x, pad, *args), kwargs, x.axis)


def ride_glu(rider: Rider, node: Any, x: Any, dim: int = -1) -> Any:
    if not x.packed or x.axis not in (dim % x.ndim, FRONT):
        return rider.native(node, (x, dim), {}, x.axis)
    return rider.back(rider.emit(torch.nn.functional.glu, rider.front(x), dim % x.ndim - x.ndim), node.meta["val"])
