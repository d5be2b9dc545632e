"""Operators that make a tensor from sizes: zeros, arange, new_empty, meshgrid."""

from __future__ import annotations

import math
from typing import Any

from packify.nn.members import FRONT
from packify.packing.builder import PackBuilder
from packify.widths.dims import fixed, free
from packify.widths.propagation import Axes, Call, WidthPropagation


def sized(widths: WidthPropagation, /, **_: Any) -> Any:
    """Its axes take the sizes of what it meets."""
    return [free(size) if size != 1 else fixed(1) for size in widths.out.shape]


def meshgrid(widths: WidthPropagation, tensors: tuple[Axes, ...], indexing: str | None) -> Any:
    dims = [axes.dims[0] if axes.dims else fixed(1) for axes in tensors]
    if indexing == "xy":
        dims[:2] = dims[1::-1]
    return tuple(dims for _ in widths.out)


def refit_arange(call: Call, **_: Any) -> dict[str, Any]:
    """As many numbers as the member needs, from the same start in the same steps."""
    start, end, step = (call.values[name] for name in ("start", "end", "step"))
    (length,) = call.shape
    return {} if math.ceil((end - start) / step) == length else {"end": start + length * step}


def refit_linspace(call: Call, **_: Any) -> dict[str, Any]:
    return {"steps": call.shape[0]}


def refit_square(call: Call, **_: Any) -> dict[str, Any]:
    """eye, randperm: one number, or two."""
    sizes = dict(zip(("n", "m"), call.shape, strict=False))
    known = {"n": call.values["n"], "m": call.values.get("m") or call.values["n"]}
    if all(known[name] == size for name, size in sizes.items()):
        return {}
    one = len(set(call.shape)) == 1 and call.values.get("m") is None
    return {"n": call.shape[0]} if one else sizes


def one_hot(widths: WidthPropagation, input: Axes, num_classes: int) -> Any:
    return [*input.dims, fixed(widths.out.shape[-1])]


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_created(builder: PackBuilder, node: Any, /, **_: Any) -> Any:
    """A tensor made from sizes is the same for all members, unless it is drawn."""
    if node.meta.get("random"):
        return builder.fallback(node, why="each member draws its own")
    return builder.call(node, None)


def pack_meshgrid(builder: PackBuilder, node: Any, tensors: Any, **_: Any) -> Any:
    return builder.fallback(node) if any(tensor.packed for tensor in tensors) else builder.call(node, None)


def pack_new_axis(builder: PackBuilder, node: Any, input: Any, **_: Any) -> Any:
    """one_hot: a new last axis."""
    return builder.call(node, input.axis) if input.axis != FRONT else builder.fallback(node)
