"""Operators that only rearrange: reshape, permute, expand, repeat, unfold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from packify.widths.dims import Dim, fixed, free, product, split_product
from packify.widths.walk import Axes, Call, Walk


def reshaped(walk: Walk, dims: Sequence[Dim], before: Sequence[int], after: Sequence[int]) -> list[Dim]:
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
        result += _regrouped(walk, list(dims[start_i:i]), list(after[start_j:j]))
    return result


def _regrouped(walk: Walk, ins: list[Dim], sizes: list[int]) -> list[Dim]:
    big = [size for size in sizes if size != 1]
    ins = [dim for dim in ins if dim.root().size != 1]
    if len(big) == 1 and ins:
        outs = iter([product(ins)])
    elif all(dim.is_pinned() for dim in ins):
        outs = iter([fixed(size) for size in big])
    else:
        outs = iter(split_product(product(ins), big, walk.reason(f"a reshape to {tuple(sizes)}")))
    return [next(outs) if size != 1 else fixed(1) for size in sizes]


def reshape(walk: Walk, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    return reshaped(walk, x.dims, x.shape, walk.out.shape)


def permutation(op: str, ndim: int, args: Sequence[Any], kwargs: dict[str, Any]) -> list[int]:
    """Which input axis each output axis is."""
    order = list(range(ndim))
    if op == "permute":
        dims = kwargs.get("dims", args[0] if args and isinstance(args[0], (tuple, list)) else args)
        return [axis % ndim for axis in dims]
    if op in ("transpose", "t", "T", "mT", "adjoint", "H", "mH"):
        if op in ("transpose",):
            a, b = (*args, *(kwargs[key] for key in ("dim0", "dim1", "axis0", "axis1") if key in kwargs))[:2]
        else:
            a, b = (-2, -1)
        if ndim > 1:
            if op == "T":
                return order[::-1]
            order[a % ndim], order[b % ndim] = order[b % ndim], order[a % ndim]
        return order
    source = kwargs.get("source", args[0] if args else None)
    destination = kwargs.get("destination", args[1] if len(args) > 1 else None)
    moved = torch.empty([0] * ndim, device="meta")
    for axis in range(ndim):  # movedim: follow each axis through torch's own arithmetic
        shape = [1] * ndim
        shape[axis] = 2
        order[list(moved.new_empty(shape).movedim(source, destination).shape).index(2)] = axis
    return order


def permute(walk: Walk, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    return [x.dims[axis] for axis in permutation(walk.node.meta["op"], len(x.dims), args, kwargs)]


def expand(walk: Walk, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    lead = walk.out.dim() - len(x.dims)
    dims = []
    for axis, size in enumerate(walk.out.shape):
        own = x.dims[axis - lead] if axis >= lead else None
        dims.append(own if own is not None and own.root().size == size else free(size) if size != 1 else fixed(1))
    return dims


def repeat(walk: Walk, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    lead = walk.out.dim() - len(x.dims)
    dims = []
    for axis, size in enumerate(walk.out.shape):
        own = x.dims[axis - lead] if axis >= lead else fixed(1)
        dims.append(own if own.root().size == size else product([fixed(size // own.root().size), own]))
    return dims


def repeat_interleave(walk: Walk, x: Axes, repeats: Any = None, dim: int | None = None, **kwargs: Any) -> list[Dim]:
    repeats = repeats if repeats is not None else kwargs.get("repeats")
    if dim is None or not isinstance(repeats, int):
        walk.pin_all(x, "it is repeated element by element")
        return [fixed(size) for size in walk.out.shape]
    dims = list(x.dims)
    dims[dim] = product([dims[dim], fixed(repeats)])
    return dims


def sliding(walk: Walk, x: Axes, dimension: int, size: int, step: int) -> list[Dim]:
    """Tensor.unfold: windows of one axis."""
    dims = list(x.dims)
    walk.pin(dims[dimension], "windows slide over it")
    dims[dimension] = fixed(walk.out.shape[dimension])
    return [*dims, fixed(size)]


def columns(walk: Walk, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    """F.unfold, ``b c h w -> b (c k) l``; and Tensor.unfold, which shares its name."""
    if walk.out.dim() == len(x.dims) + 1:
        return sliding(walk, x, *args, **kwargs)
    for dim in x.dims[2:]:
        walk.pin(dim, "a spatial axis")
    return [x.dims[0], product([x.dims[1], fixed(walk.out.shape[1] // x.shape[1])]), fixed(walk.out.shape[2])]


def image_of(walk: Walk, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    """F.fold: ``b (c k) l -> b c h w``."""
    kernel = x.shape[1] // walk.out.shape[1]
    channels, _ = split_product(x.dims[1], [walk.out.shape[1], kernel]) if kernel > 1 else (x.dims[1], None)
    if kernel > 1 and _ is not None:
        walk.pin(_, "the cells of a window")
    return [x.dims[0], channels, *(fixed(size) for size in walk.out.shape[2:])]


def pixel_shuffle(walk: Walk, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    before, after = x.shape[-3], walk.out.shape[-3]
    if before >= after:
        channels, cells = split_product(x.dims[-3], [after, before // after])
        walk.pin(cells, "the cells that become pixels")
    else:
        channels = product([x.dims[-3], fixed(after // before)])
    return [*x.dims[:-3], channels, *(fixed(size) for size in walk.out.shape[-2:])]


def channel_shuffle(walk: Walk, x: Axes, groups: int) -> list[Dim]:
    count, inner = split_product(x.dims[1], [groups, x.shape[1] // groups])
    walk.pin(count, "the groups that are shuffled")
    return [x.dims[0], product([inner, count]), *x.dims[2:]]


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
    return [size if value in (-1, wanted) else wanted for size, value, wanted in zip(sizes, values, shape, strict=True)]


def refit_unflatten(args: Any, kwargs: Any, call: Call) -> Any:
    dim = call.keywords.get("dim", call.values[1] if len(args) > 1 else 0)
    sizes = kwargs.get("sizes", args[2] if len(args) > 2 else ())
    known = call.keywords.get("sizes", call.values[2] if len(args) > 2 else ())
    axis = dim if dim >= 0 else dim + len(call.shape) - len(sizes) + 1
    return (args[0], dim, tuple(_fit(sizes, known, call.shape[axis : axis + len(sizes)]))), {}
