"""Operators that read or write a part of a tensor: slicing, indexing, gather, assignment."""

from __future__ import annotations

import operator
from types import SimpleNamespace
from typing import Any

import torch
from torch import fx

from packify.nn.members import FRONT
from packify.ops.scattering import own
from packify.packing.builder import PackBuilder, PackedValue, map_packed_values, packed_values_in
from packify.widths.dims import Dim, fixed, free
from packify.widths.matching import equal_share, split_total
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
            widths.pin(dim, "single positions of it are read")
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
    if dim.is_pinned():
        return fixed(length)
    if step != 1:
        if size % step == 0 and length == size // step:
            return equal_share(dim, step, widths.reason(f"every {step}th of it is read"))
        widths.pin(dim, f"every {step}th of it is read")
        return fixed(length)
    if not length:
        return fixed(0)
    before, piece, after = split_total(dim, [start, length, size - stop], widths.reason("it is sliced"))
    widths.cut(axis, before, piece, after)
    return piece


def select(widths: WidthPropagation, input: Axes, dim: int, index: int) -> list[Dim]:
    axis = dim % len(input.dims)
    widths.pin(input.dims[axis], "single positions of it are read")
    return [*input.dims[:axis], *input.dims[axis + 1 :]]


def narrow(widths: WidthPropagation, input: Axes, dim: int, start: int, length: int) -> list[Dim]:
    axis = dim % len(input.dims)
    return [*input.dims[:axis], _slice(widths, input.dims[axis], slice(start, start + length), axis), *input.dims[axis + 1 :]]


def index_select(widths: WidthPropagation, input: Axes, dim: int, index: Axes) -> list[Dim]:
    axis = dim % len(input.dims)
    widths.pin(input.dims[axis], "single positions of it are read")
    return [*input.dims[:axis], index.dims[0], *input.dims[axis + 1 :]]


def setitem(widths: WidthPropagation, input: Axes, index: Any, value: Any) -> None:
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


def pack_setitem(builder: PackBuilder, node: Any, input: Any, index: Any, value: Any) -> None:
    """Writing into a packed tensor goes through a view with the members in front."""
    x = input
    ndim = _part_ndim(node) if isinstance(value, PackedValue) else 0
    write_back(builder, node, write(builder, node, x, index, value, ndim))


def write(builder: PackBuilder, node: Any, x: PackedValue, index: Any, value: Any, part_ndim: int) -> PackedValue:
    """``x[index] = value``, and x as it is then: packed, if anything is. `part_ndim` counts the axes of one member's ``x[index]``."""
    packed_index = any(tensor.packed for tensor in packed_values_in(index))
    packed_value = isinstance(value, PackedValue) and value.packed
    if not (x.packed or packed_index or packed_value):
        builder.emit(operator.setitem, x, index, value)
        return x
    if not x.packed:
        old, x = x, own(builder, x, 0)
        builder.env = {key: map_packed_values(held, lambda tensor: x if tensor is old else tensor) for key, held in builder.env.items()}
    if packed_index:
        builder.fallback(node, (x, index, value), {}, "it is indexed by packed tensors")
        return x
    if isinstance(value, PackedValue) and value.packed:
        value = builder.front(value, part_ndim)
    builder.emit(operator.setitem, builder.front(x), (slice(None), *full_index(index, x.ndim)), value)
    return x


def write_back(builder: PackBuilder, node: Any, written: Any) -> None:
    """What code writes to a part of a tensor, ``part = x[:, 0]; part += y``, is in the tensor too, where later code reads it."""
    part: Any = node.args[0]
    while isinstance(part, fx.Node) and part.meta.get("inplace") and part.args:
        part = part.args[0]
    index = _viewed(part)
    if index is None or not isinstance(written, PackedValue):
        return
    base, held, before = part.args[0], builder.env[part.args[0]], builder.env[part]
    same_memory = before.node.args[:1] == (held.node,) and before.axis == written.axis if isinstance(held, PackedValue) else True
    if not same_memory and _read_later(base, node):
        written_to = write(builder, node, held, fx.node.map_arg(index, lambda item: builder.env[item]), written, part.meta["val"].dim())
        write_back(builder, SimpleNamespace(args=(base,), next=node.next), written_to)


def _viewed(part: Any) -> Any:
    """The index by which a value is a view of another tensor; None where it is none."""
    if not isinstance(part, fx.Node) or part.meta["op"] not in ("getitem", "select") or len(part.args) < 2:
        return None
    given: Any = part.args
    whole = given[0].meta["val"]
    if not isinstance(whole, torch.Tensor):
        return None
    if part.meta["op"] == "select":
        dim, position = (*given[1:], *part.kwargs.values())[:2]
        return (*[slice(None)] * (dim % whole.dim()), position)
    items = given[1] if isinstance(given[1], tuple) else (given[1],)
    copied = any(isinstance(item, list) or (isinstance(item, fx.Node) and isinstance(item.meta["val"], torch.Tensor)) for item in items)
    return None if copied else items


def _read_later(base: fx.Node, node: Any) -> bool:
    after = node.next
    while after.op != "root":
        if base in after.all_input_nodes:
            return True
        after = after.next
    return False


def _part_ndim(node: Any) -> int:
    """How many axes the part that a member's assignment writes to has."""
    target, index = node.args[0].meta["val"], fx.node.map_arg(node.args[1], lambda item: item.meta["val"])
    items = full_index(node.args[1], target.dim())
    masks = [_axes_read(item) for item in items if isinstance(item, fx.Node) and item.meta["val"].dtype in _MASKS]
    return 1 + target.dim() - sum(masks) if masks else int(target[index].dim())
