"""Operators along some axes: reductions, softmax, sorting, cumulative sums, normalising a vector."""

from __future__ import annotations

from typing import Any

import torch

from packify.widths.dims import Dim, fixed
from packify.widths.walk import Axes, Walk

REDUCTIONS = "sum mean amax amin max min prod var std var_mean std_mean norm vector_norm linalg_vector_norm logsumexp all any argmax argmin median nansum nanmean count_nonzero aminmax".split()
ALONG = "softmax log_softmax softmin normalize cumsum cumprod logcumsumexp flip roll cummax cummin triu tril renorm".split()
ORDERED = "sort argsort topk kthvalue mode msort".split()


def axes_of(ndim: int, dim: Any) -> list[int]:
    """The axes that ``dim=`` names, counted from the front; all of them for None."""
    if dim is None:
        return list(range(ndim))
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    return [axis % ndim for axis in dims] if dims else list(range(ndim))


def dim_argument(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The axes a reduction goes over, from whichever argument holds them."""
    position = 1 if op in ("norm", "vector_norm", "linalg_vector_norm", "renorm") else 0
    if "dim" in kwargs:
        return kwargs["dim"]
    value = args[position] if len(args) > position else None
    return value if not isinstance(value, (bool, float, Axes)) else None


def reduction(walk: Walk, x: Axes, *args: Any, **kwargs: Any) -> Any:
    if args and isinstance(args[0], Axes):  # torch.max(x, y)
        return walk.broadcast(x, args[0])
    over = set(axes_of(len(x.dims), dim_argument(walk.node.meta["op"], args, kwargs)))
    first = walk.out if isinstance(walk.out, torch.Tensor) else walk.out[0]
    keep = first.dim() == len(x.dims)
    dims: list[Dim] = []
    for axis, dim in enumerate(x.dims):
        if axis not in over:
            dims.append(dim)
        elif keep:
            dims.append(fixed(1))
    return dims if isinstance(walk.out, torch.Tensor) else tuple(dims for _ in walk.out)


def along(walk: Walk, x: Axes, *args: Any, **kwargs: Any) -> Any:
    return x.dims if isinstance(walk.out, torch.Tensor) else tuple(x.dims for _ in walk.out)


def ordered(walk: Walk, x: Axes, *args: Any, **kwargs: Any) -> Any:
    first = walk.out if isinstance(walk.out, torch.Tensor) else walk.out[0]
    dims = []
    if first.dim() != len(x.dims):
        walk.pin_all(x, "its order decides the result")
        return walk.structure()
    for axis, dim in enumerate(x.dims):
        if first.shape[axis] != x.shape[axis]:
            walk.pin(dim, "a fixed number of it is picked")
            dims.append(fixed(first.shape[axis]))
        else:
            dims.append(dim)
    return dims if isinstance(walk.out, torch.Tensor) else tuple(dims for _ in walk.out)
