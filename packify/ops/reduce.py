"""Operators along some axes: reductions, softmax, sorting, cumulative sums, normalising a vector."""

from __future__ import annotations

from typing import Any

import torch

from packify.nn.members import FRONT
from packify.ops import pointwise
from packify.packing.builder import PackBuilder, PackedValue
from packify.widths.dims import Dim, fixed
from packify.widths.propagation import Axes, WidthPropagation

REDUCTIONS = """
sum mean amax amin max min prod var std var_mean std_mean norm vector_norm linalg_vector_norm logsumexp all any argmax argmin
median nansum nanmean count_nonzero aminmax
""".split()
ALONG = "softmax log_softmax softmin normalize cumsum cumprod logcumsumexp flip roll cummax cummin triu tril".split()
ORDERED = "sort argsort topk kthvalue mode msort".split()


def axes_of(ndim: int, dim: Any) -> list[int]:
    """The axes that ``dim=`` names, counted from the front; all of them for None."""
    if dim is None:
        return list(range(ndim))
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    return [axis % ndim for axis in dims] if dims else list(range(ndim))


# Where the axis argument stands after the tensor, where that is not first; and its default, where that is not "all axes".
_POSITION = {
    "norm": 1,
    "vector_norm": 1,
    "linalg_vector_norm": 1,
    "renorm": 1,
    "roll": 1,
    "normalize": 1,
    "topk": 1,
    "kthvalue": 1,
    "quantile": 1,
}
_DEFAULT = {
    "sort": -1,
    "argsort": -1,
    "topk": -1,
    "kthvalue": -1,
    "mode": -1,
    "normalize": 1,
    "triu": (-2, -1),
    "tril": (-2, -1),
    "msort": 0,
}
_KEYS = ("dim", "dims", "axis")


def dim_argument(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The axes an operator works along, from whichever argument holds them."""
    for key in _KEYS:
        if key in kwargs:
            return kwargs[key]
    position = _POSITION.get(op, 0)
    if op in ("triu", "tril"):
        return _DEFAULT[op]
    value = args[position] if len(args) > position else None
    if op == "flip" and isinstance(value, int):
        return tuple(args)
    return value if isinstance(value, (int, tuple, list)) and not isinstance(value, bool) else _DEFAULT.get(op)


def reduction(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> Any:
    if args and isinstance(args[0], Axes):  # torch.max(x, y)
        return widths.broadcast(x, args[0])
    over = set(axes_of(len(x.dims), dim_argument(widths.node.meta["op"], args, kwargs)))
    first = widths.out if isinstance(widths.out, torch.Tensor) else widths.out[0]
    keep = first.dim() == len(x.dims)
    dims: list[Dim] = []
    for axis, dim in enumerate(x.dims):
        if axis not in over:
            dims.append(dim)
        elif keep:
            dims.append(fixed(1))
    return dims if isinstance(widths.out, torch.Tensor) else tuple(dims for _ in widths.out)


def along(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> Any:
    return x.dims if isinstance(widths.out, torch.Tensor) else tuple(x.dims for _ in widths.out)


def ordered(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> Any:
    first = widths.out if isinstance(widths.out, torch.Tensor) else widths.out[0]
    dims = []
    if first.dim() != len(x.dims):
        widths.pin_all(x, "its order decides the result")
        return widths.structure()
    for axis, dim in enumerate(x.dims):
        if first.shape[axis] != x.shape[axis]:
            widths.pin(dim, "a fixed number of it is picked")
            dims.append(fixed(first.shape[axis]))
        else:
            dims.append(dim)
    return dims if isinstance(widths.out, torch.Tensor) else tuple(dims for _ in widths.out)


# -- how members are packed --------------------------------------------------------------------------------------------


def pack(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Where the operator leaves the members' axis alone it runs as it is, else on an axis in front."""
    if args and isinstance(args[0], PackedValue):
        return pointwise.pack(builder, node, x, *args, **kwargs)
    if not x.packed:
        return builder.native(node, (x, *args), kwargs, None)
    op, value = node.meta["op"], node.meta["val"]
    given = dim_argument(op, args, kwargs)
    over = axes_of(x.ndim, given)
    first = value if isinstance(value, torch.Tensor) else value[0]
    if x.axis not in over and x.axis != FRONT:
        gone = 0 if first.dim() == x.ndim else sum(axis < x.axis for axis in over)
        return builder.native(node, (x, *args), kwargs, x.axis - gone)
    negative = tuple(axis - x.ndim for axis in over)
    if (given is None and op in _FLATTENS) or x.ndim == 0:
        return builder.fallback(node, (x, *args), kwargs, "it runs over all axes at once")
    new_args, new_kwargs = with_dim(op, args, kwargs, negative if given is None or isinstance(given, (tuple, list)) else negative[0])
    return builder.back(builder.again(node, (builder.front(x), *new_args), new_kwargs), value)


# Without an axis these work on the flattened tensor.
_FLATTENS = frozenset("max min argmax argmin median prod any all count_nonzero norm cumsum roll nanmedian aminmax".split())


def with_dim(op: str, args: Any, kwargs: Any, dim: Any) -> tuple[Any, Any]:
    """The same call along other axes."""
    position = _POSITION.get(op, 0)
    for key in _KEYS:
        if key in kwargs:
            return args, {**kwargs, key: dim}
    if op in ("triu", "tril"):
        return args, kwargs
    if op == "flip":
        return (dim,), kwargs
    if len(args) > position:
        return (*args[:position], dim, *args[position + 1 :]), kwargs
    return args, {**kwargs, "dims" if op == "roll" else "dim": dim}
