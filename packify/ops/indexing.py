"""Operators that read or write a part of a tensor: slicing, indexing, gather, assignment."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from packify.nn.members import FRONT
from packify.nn.writes import setitem_members
from packify.nn.writes import store as store_value
from packify.packing.builder import PackBuilder, PackedValue, packed_values_in
from packify.widths.dims import Dim, fixed, free
from packify.widths.matching import equal_share, read_elements, split_total
from packify.widths.propagation import Axes, Call, WidthPropagation


def getitem(widths: WidthPropagation, input: Any, index: Any) -> Any:
    """An element of a tuple, or a part of a tensor."""
    x = input
    if not isinstance(x, Axes):
        found = x[index]
        return found.dims if isinstance(found, Axes) else tuple(item.dims for item in found) if isinstance(found, tuple) else None
    dims = region(widths, x, index)
    return dims if dims is not None and len(dims) == widths.out.dim() else widths.structure()


def region(widths: WidthPropagation, x: Axes, index: Any) -> list[Dim] | None:
    """The dims of the part of a tensor that an index names; None where positions are computed and all of it is pinned."""
    items = full_index(index, len(x.dims))
    if any(_is_mask(item) for item in items):
        widths.pin_all(x, "it is indexed by a mask")
        return None
    dims: list[Dim] = []
    looked_up = _index_dims(widths, [item for item in items if isinstance(item, (Axes, list))])
    inserted_at, axis = None, 0
    split = _separated(items)
    for item in items:
        if item is None:
            dims.append(fixed(1))
            continue
        dim = x.dims[axis]
        if isinstance(item, slice):
            dims.append(_slice(widths, dim, item, axis))
        else:
            _read_positions(widths, dim)
            if not isinstance(item, int) and inserted_at is None:
                inserted_at = 0 if split else len(dims)
        axis += 1
    if inserted_at is not None:
        dims[inserted_at:inserted_at] = looked_up
    return dims


def _is_mask(item: Any) -> bool:
    return isinstance(item, bool) or (isinstance(item, Axes) and item.val.dtype in _MASKS)


_MASKS = (torch.bool, torch.uint8)


def full_index(index: Any, ndim: int) -> list[Any]:
    """An index with the ellipsis and trailing axes written out."""
    items = [list(item) if isinstance(item, (tuple, range)) else item for item in (index if isinstance(index, tuple) else (index,))]
    consumed = sum(map(_axes_read, items))
    blank = [slice(None)] * (ndim - consumed)
    position = next((i for i, item in enumerate(items) if item is Ellipsis), None)
    return [*items, *blank] if position is None else [*items[:position], *blank, *items[position + 1 :]]


def _axes_read(item: Any) -> int:
    """How many axes one item of an index stands for: a mask for as many as it has."""
    if item is None or item is Ellipsis:
        return 0
    value = item.meta["val"] if isinstance(item, fx.Node) else getattr(item, "val", None)
    return value.dim() if isinstance(value, torch.Tensor) and value.dtype in _MASKS else 1


def _separated(items: list[Any]) -> bool:
    """Advanced indices with a slice between them put their result first."""
    marks = [isinstance(item, (Axes, list)) or type(item) is int for item in items]
    if not any(isinstance(item, (Axes, list)) for item in items):
        return False
    first, last = marks.index(True), len(marks) - 1 - marks[::-1].index(True)
    return not all(marks[first : last + 1])


def _index_dims(widths: WidthPropagation, advanced: list[Any]) -> list[Dim]:
    indices = [item for item in advanced if isinstance(item, Axes)]
    if not indices:
        return [fixed(len(advanced[0]))] if advanced else []
    return widths.broadcast(*indices)


def _slice(widths: WidthPropagation, dim: Dim, item: slice, axis: int) -> Dim:
    size = dim.root().size
    if any(isinstance(part, Axes) for part in (item.start, item.stop, item.step)):
        widths.pin(dim, "it is sliced by a tensor")
        return free(size)
    start, stop, step = item.indices(size)
    length = len(range(start, stop, step))
    if length == size and step == 1:
        return dim
    if step != 1:
        if dim.is_pinned():
            read_elements(dim, step)
            return fixed(length)
        if size % step == 0 and length == size // step:
            return equal_share(dim, step, widths.reason(f"every {step}th of it is read"))
        widths.pin(dim, f"every {step}th of it is read")
        read_elements(dim)
        return fixed(length)
    if not length:
        return fixed(0)
    pinned = dim.is_pinned()
    before, piece, after = split_total(dim, [start, length, size - stop], widths.reason("it is sliced"))
    if not pinned:
        widths.cut(axis, before, piece, after)
    return piece


def _read_positions(widths: WidthPropagation, dim: Dim) -> None:
    widths.pin(dim, "single positions of it are read")
    read_elements(dim)


def select(widths: WidthPropagation, input: Axes, dim: int, index: int) -> list[Dim]:
    axis = dim % len(input.dims)
    _read_positions(widths, input.dims[axis])
    return [*input.dims[:axis], *input.dims[axis + 1 :]]


def narrow(widths: WidthPropagation, input: Axes, dim: int, start: int, length: int) -> list[Dim]:
    axis = dim % len(input.dims)
    return [*input.dims[:axis], _slice(widths, input.dims[axis], slice(start, start + length), axis), *input.dims[axis + 1 :]]


def index_select(widths: WidthPropagation, input: Axes, dim: int, index: Axes) -> list[Dim]:
    axis = dim % len(input.dims)
    _read_positions(widths, input.dims[axis])
    return [*input.dims[:axis], index.dims[0], *input.dims[axis + 1 :]]


def setitem(widths: WidthPropagation, input: Axes, index: Any, value: Any) -> list[Dim]:
    """What is written meets the part that it is written to."""
    x = input
    items = full_index(index, len(x.dims))
    part = _masked(widths, x, items) if any(map(_is_mask, items)) else region(widths, x, index)
    if part is None:
        widths.pin_all((x, value), "parts of it are written")
    elif isinstance(value, Axes):
        for own, other in zip(reversed(part), reversed(value.dims), strict=False):
            if other.root().size != 1:
                widths.equate(own, other)
    return x.dims


def _masked(widths: WidthPropagation, x: Axes, items: list[Any]) -> list[Dim] | None:
    """What a mask leaves to be written: an axis of the places that it names, and the axes that it says nothing of."""
    part, axis = [], 0
    for item in items:
        if isinstance(item, Axes) and _is_mask(item):
            for own, other in zip(x.dims[axis:], item.dims, strict=False):
                widths.equate(own, other)
            part.append(fixed(0))
        elif item == slice(None):
            part.append(x.dims[axis])
        else:
            return None
        axis += _axes_read(item)
    return part


def store(widths: WidthPropagation, target: Axes, value: Axes) -> None:
    """What a buffer holds from now on is as wide as it was."""
    for own, other in zip(target.dims, value.dims, strict=True):
        if own.root().size != 1:
            widths.equate(own, other)


# -- refitting -----------------------------------------------------------------------------------------------------------


def refit_getitem(call: Call, index: Any, **_: Any) -> dict[str, Any]:
    if not call.cuts:
        return {}
    items = full_index(index, call.values["input"].dim())
    axis = 0
    for position, item in enumerate(items):
        if item is not None:
            if axis in call.cuts:
                before, length, after = call.cuts[axis]
                items[position] = slice(before or None, before + length if after else None)
            axis += 1
    return {"index": tuple(items)}


def refit_narrow(call: Call, **_: Any) -> dict[str, Any]:
    return next(({"start": before, "length": length} for before, length, _ in call.cuts.values()), {})


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_getitem(builder: PackBuilder, node: Any, input: Any, index: Any) -> Any:
    x = input
    if isinstance(x, tuple):
        return x[index]
    if not isinstance(x, PackedValue):
        return builder.again(node, *builder.values(node))
    indices = packed_values_in(index)
    if not x.packed and not any(tensor.packed for tensor in indices):
        return builder.call(node, None)
    items = full_index(index, x.ndim)
    if (
        any(tensor.packed for tensor in indices)
        or _splits_advanced(items)
        or any(isinstance(item, PackedValue) and item.val.dtype == torch.bool for item in items)
    ):
        return builder.fallback(node, why="it is indexed by packed, boolean or separate tensors")
    axis = _axis_left(items, x.axis, [tensor.ndim for tensor in indices])
    if axis is not None:
        return builder.call(node, axis, index=tuple(items))
    return builder.back(builder.emit(operator.getitem, builder.front(x), (slice(None), *items)), node.meta["val"])


def _splits_advanced(items: list[Any]) -> bool:
    marks = [isinstance(item, (PackedValue, list)) for item in items]
    if not any(marks):
        return False
    marks = [mark or isinstance(item, int) for mark, item in zip(marks, items, strict=True)]
    first, last = marks.index(True), len(marks) - 1 - marks[::-1].index(True)
    return not all(marks[first : last + 1])


def _axis_left(items: list[Any], axis: int | None, index_ndims: list[int]) -> int | None:
    """Where the members' axis is after indexing; None if the index touches it."""
    if axis is None or axis == FRONT:
        return None
    at, out, counted = 0, 0, False
    for item in items:
        if item is None:
            out += 1
            continue
        if at == axis:
            return out if isinstance(item, slice) and item == slice(None) else None
        if isinstance(item, slice):
            out += 1
        elif isinstance(item, (PackedValue, list)) and not counted:
            out += max(index_ndims, default=1)
            counted = True
        at += 1
    return None


def pack_along_dim(builder: PackBuilder, node: Any, input: Any, dim: int, **others: Any) -> Any:
    """select, narrow, index_select: on any axis but the members' as they are."""
    dim %= input.ndim
    if any(tensor.packed for tensor in packed_values_in(others)):
        return builder.fallback(node)
    if not input.packed:
        return builder.call(node, None)
    if input.axis not in (dim, FRONT):
        gone = node.meta["op"] == "select" and dim < input.axis
        return builder.call(node, input.axis - gone)
    function = getattr(torch, node.meta["op"])
    return builder.back(builder.emit(function, builder.front(input), dim - input.ndim, *others.values()), node.meta["val"])


def pack_setitem(builder: PackBuilder, node: Any, input: Any, index: Any, value: Any, reuse: Any) -> Any:
    """A part is written through a view with the members in front; they stay on the axis where they are."""
    x = input
    indices, items = packed_values_in(index), full_index(index, x.ndim)
    if not any(tensor.packed for tensor in (x, *indices, *packed_values_in(value))):
        return builder.call(node, None)
    if any(tensor.packed for tensor in indices) or _splits_advanced(items) or x.ndim == 0:
        return builder.fallback(node, why="it is indexed by packed or separate tensors")
    if isinstance(value, PackedValue):
        value = builder.front(value, _part_ndim(node))
    reuse = reuse and x.packed and builder.may_write(node, (x,))
    x = x if x.packed else builder.to(x, 0)
    given = (x, (slice(None), *items), value, x.axis, builder.members)
    return builder.result(builder.emit(setitem_members, *given, **({"reuse": True} if reuse else {})), x.val, x.axis)


def pack_store(builder: PackBuilder, node: Any, target: Any, value: Any) -> None:
    """Each member's value goes to its share."""
    if target.packed:
        value = builder.front(value) if target.axis == FRONT and value.packed else builder.to(value, target.axis)
    builder.emit(store_value, target, value)


def _part_ndim(node: Any) -> int:
    """How many axes the part that a member's assignment writes to has."""
    target, index = node.args[0].meta["val"], fx.node.map_arg(node.args[1], lambda item: item.meta["val"])
    items = full_index(node.args[1], target.dim())
    masks = [_axes_read(item) for item in items if isinstance(item, fx.Node) and item.meta["val"].dtype in _MASKS]
    return 1 + target.dim() - sum(masks) if masks else int(target[index].dim())
