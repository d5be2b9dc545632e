"""Operators that merge and split axes: reshape, flatten, squeeze, unflatten; and the sizes that they are given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from packify.nn.members import FRONT
from packify.ops.movement import sizes_of
from packify.ops.sizes import meet_sizes, resized
from packify.packing.builder import PackBuilder, PackedValue
from packify.widths.dims import Dim, fixed, product
from packify.widths.matching import read_elements, split_product
from packify.widths.propagation import Axes, Call, WidthPropagation


def reshaped(widths: WidthPropagation, dims: Sequence[Dim], before: Sequence[int], after: Sequence[int]) -> list[Dim]:
    """The dims after a reshape: axes are grouped where the running products meet, then merged or split."""
    if 0 in before or 0 in after:
        return [fixed(size) for size in after]
    result: list[Dim] = []
    i = j = 0
    while i < len(before) or j < len(after):
        start_i, start_j = i, j
        left = before[i] if i < len(before) else 1
        right = after[j] if j < len(after) else 1
        i, j = min(i + 1, len(before)), min(j + 1, len(after))
        while left != right:
            if left < right:
                left *= before[i]
                i += 1
            else:
                right *= after[j]
                j += 1
        result += _regrouped(widths, list(dims[start_i:i]), list(after[start_j:j]))
    return result


def _regrouped(widths: WidthPropagation, ins: list[Dim], sizes: list[int]) -> list[Dim]:
    big = [size for size in sizes if size != 1]
    ins = [dim for dim in ins if dim.root().size != 1]
    if len(big) == 1 and ins:
        outs = iter([product(ins)])
    elif all(dim.is_pinned() for dim in ins):
        if len(ins) == 1:
            read_elements(ins[0], big[0])
        outs = iter([fixed(size) for size in big])
    else:
        outs = iter(split_product(product(ins), big, widths.reason(f"a reshape to {tuple(sizes)}")))
    return [next(outs) if size != 1 else fixed(1) for size in sizes]


def reshape(widths: WidthPropagation, input: Axes, other: Axes | None = None, **_: Any) -> list[Dim]:
    """Sizes that the code reads from a tensor are that tensor's axes, and so are those of a tensor that it is reshaped as."""
    dims = reshaped(widths, input.dims, input.shape, widths.out.shape)
    for own, as_long in zip(dims, () if other is None else other.dims, strict=False):
        widths.equate(own, as_long)
    if widths.node.meta["op"] == "reshape":
        meet_sizes(widths, dims, "shape")
    return dims


def refit_sizes(call: Call, shape: Sequence[Any] = (), **_: Any) -> dict[str, Any]:
    """The sizes of a reshape, an expand or a factory at the member's: what the graph computes right stays as it is."""
    fitted = _fit(shape, call.values.get("shape", ()), call.shape)
    return {} if fitted == tuple(shape) else {"shape": fitted}


def _fit(sizes: Sequence[Any], values: Sequence[Any], shape: tuple[int, ...]) -> tuple[Any, ...]:
    if len(sizes) != len(shape):
        return tuple(sizes)
    return tuple(
        size if value in (-1, wanted) else resized(size, value, wanted) for size, value, wanted in zip(sizes, values, shape, strict=True)
    )


def refit_unflatten(call: Call, sizes: Sequence[Any], **_: Any) -> dict[str, Any]:
    dim, known = call.values["dim"], call.values["sizes"]
    axis = dim if dim >= 0 else dim + len(call.shape) - len(sizes) + 1
    return {"sizes": _fit(sizes, known, call.shape[axis : axis + len(sizes)])}


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_reshape(builder: PackBuilder, node: Any, input: Any, shape: Sequence[Any] = (), other: Any = None) -> Any:
    """A reshape keeps the members where their axis stays the outermost factor of one; else they go to the batch axis first."""
    x, value = input, node.meta["val"]
    if not x.packed:
        return builder.call(node, None) if other is None else _like(builder, x, other, value)
    if value.dim() == 0 or x.ndim == 0 or not (shape or other is not None):
        return builder.fallback(node)
    axis = axis_after(x.shape, tuple(value.shape), x.axis) if x.axis != FRONT else None
    if axis is None:
        x, axis = builder.to(x, 0), 0
    sizes = list(shape) if other is None else sizes_of(builder, other)
    sizes[axis] = sizes[axis] if isinstance(sizes[axis], int) and sizes[axis] == -1 else builder.times(sizes[axis])
    return builder.result(builder.emit(torch.reshape, x, tuple(sizes)), value, axis)


def _like(builder: PackBuilder, x: PackedValue, other: PackedValue, value: torch.Tensor) -> Any:
    """A shared tensor in the shape that another has in one member."""
    return builder.result(builder.emit(torch.reshape, x, tuple(sizes_of(builder, other))), value, None)


def axis_after(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    """The axis that starts, in memory, where `axis` started."""
    ahead = math.prod(before[:axis])
    starts = [position for position in range(len(after)) if math.prod(after[:position]) == ahead]
    exact = [position for position in starts if after[position] == before[axis]]
    wide = [position for position in starts if after[position] != 1]
    return next(iter(exact or wide or starts), None)


def pack_axes(builder: PackBuilder, node: Any, input: Any, **arguments: Any) -> Any:
    """flatten, squeeze, unsqueeze, unflatten: where the members' axis is untouched, else on an axis in front."""
    x = input
    if not x.packed:
        return builder.call(node, None)
    op, value = node.meta["op"], node.meta["val"]
    if x.ndim == 0 and op != "unsqueeze":
        return builder.fallback(node)
    axis = None if x.axis == FRONT else _axis_kept(op, x, arguments, value)
    if axis is not None:
        if op == "squeeze" and arguments["dim"] is None:
            gone = tuple(index for index, size in enumerate(x.shape) if size == 1 and index != x.axis)
            return builder.result(builder.emit(torch.squeeze, x, gone), value, axis)
        return builder.call(node, axis)
    target, negative = _from_the_back(op, x, arguments, value)
    return builder.back(builder.emit(target, builder.front(x), *negative), value)


def _flattened(x: PackedValue, arguments: Mapping[str, Any]) -> tuple[int, int]:
    """The first and the last axis that flatten, or ravel, makes one of."""
    return arguments.get("start_dim", 0) % x.ndim, arguments.get("end_dim", -1) % x.ndim


def _squeezed(x: PackedValue, dim: Any) -> list[int]:
    axes = range(x.ndim) if dim is None else [axis % x.ndim for axis in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    return [axis for axis in axes if x.shape[axis] == 1]


def _axis_kept(op: str, x: PackedValue, arguments: Mapping[str, Any], value: torch.Tensor) -> int | None:
    axis = int(x.axis or 0)
    if op in ("flatten", "ravel"):
        start, end = _flattened(x, arguments)
        if axis <= start:
            return axis
        return int(axis - (end - start)) if axis > end else None
    if op == "unsqueeze":
        return int(axis + (arguments["dim"] % value.dim() <= axis))
    if op == "squeeze":
        gone = _squeezed(x, arguments["dim"])
        return None if axis in gone else int(axis - sum(index < axis for index in gone))
    split = arguments["dim"] % x.ndim
    return axis if axis < split else int(axis + (value.dim() - x.ndim)) if axis > split else None


def _from_the_back(op: str, x: PackedValue, arguments: Mapping[str, Any], value: torch.Tensor) -> tuple[Any, tuple[Any, ...]]:
    """The call with axes counted from the back, so that an axis in front changes nothing."""
    if op in ("flatten", "ravel"):
        start, end = _flattened(x, arguments)
        return torch.flatten, (start - x.ndim, end - x.ndim)
    if op == "unsqueeze":
        return torch.unsqueeze, (arguments["dim"] % value.dim() - value.dim(),)
    if op == "squeeze":
        return torch.squeeze, (tuple(index - x.ndim for index in _squeezed(x, arguments["dim"])),)
    return torch.unflatten, (arguments["dim"] % x.ndim - x.ndim, arguments["sizes"])
