"""Operators that join or cut along an axis: cat, stack, split, chunk, slicing, indexing, padding."""

from __future__ import annotations

from typing import Any

import torch

from packify.widths.dims import Dim, fixed, free, split_product, split_total, total
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
        count, inner = split_product(dim, [len(sizes), sizes[0]]) if len(sizes) > 1 and sizes[0] > 1 else (None, dim)
        if len(sizes) > 1 and sizes[0] == 1:
            walk.pin(dim, "it is taken apart element by element")
            inner = fixed(1)
        if count is not None:
            walk.pin(count, "a number of equal pieces")
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


def getitem(walk: Walk, x: Any, index: Any) -> Any:
    if not isinstance(x, Axes):
        found = x[index]
        return found.dims if isinstance(found, Axes) else tuple(item.dims for item in found) if isinstance(found, tuple) else None
    items = full_index(index, len(x.dims))
    advanced = [item for item in items if isinstance(item, (Axes, list))]
    if any(isinstance(item, Axes) and item.val.dtype == torch.bool for item in items) or len(advanced) > 1 and not _all_pinned(x, items):
        walk.pin_all(x, "it is indexed by tensors")
        return walk.structure()
    dims: list[Dim] = []
    looked_up = _index_dims(walk, advanced)
    inserted_at, axis = None, 0
    split = _separated(items)
    for item in items:
        if item is None:
            dims.append(fixed(1))
            continue
        dim = x.dims[axis]
        if isinstance(item, slice):
            dims.append(_slice(walk, dim, item, axis))
        else:
            walk.pin(dim, "single positions of it are read")
            if not isinstance(item, int) and inserted_at is None:
                inserted_at = 0 if split else len(dims)
        axis += 1
    if inserted_at is not None:
        dims[inserted_at:inserted_at] = looked_up
    return dims if len(dims) == walk.out.dim() else walk.structure()


def full_index(index: Any, ndim: int) -> list[Any]:
    """An index with the ellipsis and trailing axes written out."""
    items = list(index) if isinstance(index, tuple) else [index]
    consumed = sum(item is not None and item is not Ellipsis for item in items)
    blank = [slice(None)] * (ndim - consumed)
    position = next((i for i, item in enumerate(items) if item is Ellipsis), None)
    return [*items, *blank] if position is None else [*items[:position], *blank, *items[position + 1 :]]


def _separated(items: list[Any]) -> bool:
    """Advanced indices with a slice between them put their result first."""
    marks = [isinstance(item, (Axes, list)) or type(item) is int for item in items]
    if not any(isinstance(item, (Axes, list)) for item in items):
        return False
    first, last = marks.index(True), len(marks) - 1 - marks[::-1].index(True)
    return not all(marks[first : last + 1])


def _all_pinned(x: Axes, items: list[Any]) -> bool:
    axes = [i for i, item in enumerate(item for item in items if item is not None) if isinstance(item, (Axes, list))]
    return all(x.dims[axis].is_pinned() or True for axis in axes)


def _index_dims(walk: Walk, advanced: list[Any]) -> list[Dim]:
    indices = [item for item in advanced if isinstance(item, Axes)]
    if not indices:
        return [fixed(len(advanced[0]))] if advanced else []
    return walk.broadcast(*indices)


def _slice(walk: Walk, dim: Dim, item: slice, axis: int) -> Dim:
    size = dim.root().size
    if any(isinstance(part, Axes) for part in (item.start, item.stop, item.step)):
        walk.pin(dim, "it is sliced by a tensor")
        return free(size)
    start, stop, step = item.indices(size)
    length = len(range(start, stop, step))
    if length == size and step == 1:
        return dim
    if dim.is_pinned():
        return fixed(length)
    if step != 1:
        if size % step == 0 and length == size // step:
            outer, inner = split_product(dim, [length, step])
            walk.pin(inner, f"every {step}th of it is read")
            return outer
        walk.pin(dim, f"every {step}th of it is read")
        return fixed(length)
    if not length:
        return fixed(0)
    before, piece, after = split_total(dim, [start, length, size - stop], walk.reason("it is sliced"))
    walk.cut(axis, before, piece, after)
    return piece


def select(walk: Walk, x: Axes, dim: int, index: int) -> list[Dim]:
    axis = dim % len(x.dims)
    walk.pin(x.dims[axis], "single positions of it are read")
    return [*x.dims[:axis], *x.dims[axis + 1 :]]


def narrow(walk: Walk, x: Axes, dim: int, start: int, length: int) -> list[Dim]:
    axis = dim % len(x.dims)
    return [*x.dims[:axis], _slice(walk, x.dims[axis], slice(start, start + length), axis), *x.dims[axis + 1 :]]


def index_select(walk: Walk, x: Axes, dim: int, index: Axes) -> list[Dim]:
    axis = dim % len(x.dims)
    walk.pin(x.dims[axis], "single positions of it are read")
    return [*x.dims[:axis], index.dims[0], *x.dims[axis + 1 :]]


def gather(walk: Walk, x: Axes, dim: int, index: Axes, **kwargs: Any) -> list[Dim]:
    walk.pin(x.dims[dim], "single positions of it are read")
    for axis, (a, b) in enumerate(zip(x.dims, index.dims, strict=True)):
        if axis != dim % len(x.dims) and a.root().size == b.root().size:
            walk.equate(a, b)
    return index.dims


def setitem(walk: Walk, x: Axes, index: Any, value: Any) -> None:
    if not isinstance(value, Axes):
        getitem_dims = full_index(index, len(x.dims))
        for dim, item in zip(x.dims, (item for item in getitem_dims if item is not None), strict=True):
            if item != slice(None):
                walk.pin(dim, "single positions of it are written")
        return
    walk.pin_all((x, value), "parts of it are written")


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
    halves, inner = split_product(x.dims[axis], [2, x.shape[axis] // 2])
    walk.pin(halves, "the two halves of a gate")
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


def refit_getitem(args: Any, kwargs: Any, call: Call) -> Any:
    if not call.cuts:
        return args, kwargs
    items = full_index(args[1], call.values[0].dim())
    axis = 0
    for position, item in enumerate(items):
        if item is not None:
            if axis in call.cuts:
                before, length, after = call.cuts[axis]
                items[position] = slice(before or None, before + length if after else None)
            axis += 1
    return (args[0], tuple(items)), kwargs


def refit_narrow(args: Any, kwargs: Any, call: Call) -> Any:
    for axis, (before, length, _) in call.cuts.items():
        return (args[0], axis, before, length), {}
    return args, kwargs


def refit_pad(args: Any, kwargs: Any, call: Call) -> Any:
    amounts = list(args[1] if len(args) > 1 else kwargs["pad"])
    for axis, (before, _, after) in call.cuts.items():
        position = len(call.shape) - 1 - axis
        amounts[2 * position], amounts[2 * position + 1] = before, after
    return (args[0], tuple(amounts), *args[2:]), {key: value for key, value in kwargs.items() if key != "pad"}
