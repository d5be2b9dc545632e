"""Operators that merge and split axes: reshape, flatten, squeeze, unflatten; and the sizes that they are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from packify.nn.members import FRONT
from packify.ops.movement import sizes_of
from packify.ops.sizes import meet_sizes, resized
from packify.packing.builder import PackBuilder, PackedValue
from packify.widths.dims import Dim, fixed, product
from packify.widths.matching import split_product
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
        outs = iter([fixed(size) for size in big])
    else:
        outs = iter(split_product(product(ins), big, widths.reason(f"a reshape to {tuple(sizes)}")))
    return [next(outs) if size != 1 else fixed(1) for size in sizes]


def reshape(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    """Sizes that the code reads from a tensor are that tensor's axes."""
    dims = reshaped(widths, x.dims, x.shape, widths.out.shape)
    if widths.node.meta["op"] == "reshape":
        meet_sizes(widths, dims)
    return dims


def refit_sizes(args: Any, kwargs: Any, call: Call, first: int = 1) -> Any:
    """The sizes of a reshape, an expand or a factory at the member's: what the graph computes right stays as it is."""
    for key in ("size", "shape", "sizes"):
        if key in kwargs:
            return args, {**kwargs, key: tuple(_fit(kwargs[key], call.keywords[key], call.shape))}
    if len(args) > first and isinstance(args[first], (tuple, list)):
        return (*args[:first], tuple(_fit(args[first], call.values[first], call.shape)), *args[first + 1 :]), kwargs
    count = next((index for index in range(first, len(args)) if not _is_size(call.values[index])), len(args))
    return (*args[:first], *_fit(args[first:count], call.values[first:count], call.shape), *args[count:]), kwargs


def refit_factory(args: Any, kwargs: Any, call: Call) -> Any:
    return refit_sizes(args, kwargs, call, first=0)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _fit(sizes: Sequence[Any], values: Sequence[Any], shape: tuple[int, ...]) -> list[Any]:
    if len(sizes) != len(shape):
        return list(sizes)
    return [
        size if value in (-1, wanted) else resized(size, value, wanted) for size, value, wanted in zip(sizes, values, shape, strict=True)
    ]


def refit_unflatten(args: Any, kwargs: Any, call: Call) -> Any:
    dim = call.keywords.get("dim", call.values[1] if len(args) > 1 else 0)
    sizes = kwargs.get("sizes", args[2] if len(args) > 2 else ())
    known = call.keywords.get("sizes", call.values[2] if len(args) > 2 else ())
    axis = dim if dim >= 0 else dim + len(call.shape) - len(sizes) + 1
    return (args[0], dim, tuple(_fit(sizes, known, call.shape[axis : axis + len(sizes)]))), {}


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_reshape(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """A reshape keeps the members where their axis stays the outermost factor of one; else they go to the batch axis first."""
    if not x.packed:
        return builder.native(node, (x, *args), kwargs, None)
    value = node.meta["val"]
    if value.dim() == 0 or x.ndim == 0:
        return builder.fallback(node, (x, *args), kwargs)
    axis = axis_after(x.shape, tuple(value.shape), x.axis) if x.axis != FRONT else None
    if axis is None:
        x, axis = builder.to(x, 0), 0
    sizes = reshape_sizes(builder, node, args, kwargs)
    sizes[axis] = sizes[axis] if isinstance(sizes[axis], int) and sizes[axis] == -1 else builder.times(sizes[axis])
    return builder.result(builder.emit(torch.reshape, x, tuple(sizes)), value, axis)


def axis_after(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    """The axis that starts, in memory, where `axis` started."""
    ahead = math.prod(before[:axis])
    starts = [position for position in range(len(after)) if math.prod(after[:position]) == ahead]
    exact = [position for position in starts if after[position] == before[axis]]
    wide = [position for position in starts if after[position] != 1]
    return next(iter(exact or wide or starts), None)


def reshape_sizes(builder: PackBuilder, node: Any, args: Any, kwargs: Any) -> list[Any]:
    """The member's output sizes, as the graph computes them."""
    if node.meta["op"] == "reshape_as" and args and isinstance(args[0], PackedValue):
        return sizes_of(builder, args[0])
    given = kwargs.get("shape", kwargs.get("size", args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args))
    return list(given)


def pack_axes(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """flatten, squeeze, unsqueeze, unflatten, expand dims: where the members' axis is untouched, else on an axis in front."""
    if not x.packed:
        return builder.native(node, (x, *args), kwargs, None)
    op, value = node.meta["op"], node.meta["val"]
    axis = None if x.axis == FRONT else _axis_kept(op, x, args, kwargs, value)
    if axis is not None:
        if op == "squeeze" and not args and not kwargs:
            args = (tuple(index for index, size in enumerate(x.shape) if size == 1 and index != x.axis),)
        return builder.native(node, (x, *args), kwargs, axis)
    target, negative = _from_the_back(op, x, args, kwargs, value)
    return builder.back(builder.emit(target, builder.front(x), *negative), value)


def _axis_kept(op: str, x: PackedValue, args: Any, kwargs: Any, value: torch.Tensor) -> int | None:
    axis = int(x.axis or 0)
    first: Any = args[0] if args else kwargs.get("dim", kwargs.get("start_dim"))
    if op in ("flatten", "ravel"):
        start = (first or 0) % x.ndim
        end = kwargs.get("end_dim", args[1] if len(args) > 1 else -1) % x.ndim
        if axis <= start:
            return axis
        return int(axis - (end - start)) if axis > end else None
    if op == "unsqueeze":
        return int(axis + (first % value.dim() <= axis))
    if op == "squeeze":
        gone = (
            [index for index, size in enumerate(x.shape) if size == 1]
            if first is None
            else [d % x.ndim for d in (first if isinstance(first, (tuple, list)) else (first,))]
        )
        gone = [index for index in gone if x.shape[index] == 1]
        if axis in gone:
            return None
        return int(axis - sum(index < axis for index in gone))
    if op == "unflatten":
        split = first % x.ndim
        return axis if axis < split else int(axis + (value.dim() - x.ndim)) if axis > split else None
    return None


def _from_the_back(op: str, x: PackedValue, args: Any, kwargs: Any, value: torch.Tensor) -> tuple[Any, tuple[Any, ...]]:
    """The call with axes counted from the back, so that an axis in front changes nothing."""
    first = args[0] if args else kwargs.get("dim", kwargs.get("start_dim"))
    if op in ("flatten", "ravel"):
        start = (first or 0) % x.ndim
        end = kwargs.get("end_dim", args[1] if len(args) > 1 else -1) % x.ndim
        return torch.flatten, (start - x.ndim, end - x.ndim)
    if op == "unsqueeze":
        return torch.unsqueeze, (first % value.dim() - value.dim(),)
    if op == "squeeze":
        gone = range(x.ndim) if first is None else [d % x.ndim for d in (first if isinstance(first, (tuple, list)) else (first,))]
        return torch.squeeze, (tuple(index - x.ndim for index in gone if x.shape[index] == 1),)
    return torch.unflatten, (first % x.ndim - x.ndim, kwargs.get("sizes", args[1] if len(args) > 1 else ()))
