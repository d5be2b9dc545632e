"""Sizes that a network's code reads from one tensor and gives to another: they are the same axis."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from torch import fx

from packify.capture.binding import arguments
from packify.widths.dims import Atom, Dim, fixed, product
from packify.widths.matching import suggest
from packify.widths.propagation import WidthPropagation


def meet_sizes(widths: WidthPropagation, dims: Sequence[Dim], name: str) -> None:
    """Equate the output's axes with those that its sizes were read from, where the input's axes alone do not decide them."""
    for dim, size in zip(dims, sizes_given(widths, name), strict=False):
        known = size_as_read(widths, size)
        if known is not None and isinstance(dim.root(), Atom):
            suggest(dim, known)


def resolution(widths: WidthPropagation, dims: Sequence[Dim], sizes: Sequence[int], kernel: Sequence[int] = ()) -> list[Dim]:
    """The spatial axes of an image operator's output, of which `dims` are the input's.

    One that keeps its length and is some layer's width, as where channels are convolved over, stays a width, and so does one
    along which a kernel of size 1 looks at each position alone.
    """
    result = []
    for dim, size, extent in zip(dims, sizes, kernel or [0] * len(sizes), strict=True):
        if size == dim.root().size and (dim.root().demands or extent == 1):
            result.append(dim)
        else:
            widths.pin(dim, "a spatial axis")
            result.append(fixed(size))
    return result


def sizes_given(widths: WidthPropagation, name: str) -> Sequence[Any]:
    """One number per output axis, as the graph has it in the argument `name`; none where there is another number of them."""
    sizes = widths.given(name)
    return sizes if isinstance(sizes, (tuple, list)) and len(sizes) == widths.out.dim() else ()


def size_as_read(widths: WidthPropagation, size: Any) -> Dim | None:
    """The dim of a number that was read from a tensor's shape, or multiplied from such; None for any other."""
    if not isinstance(size, fx.Node):
        return None
    if size.meta["op"] == "size":
        tensor, axis = (arguments(size).get(name) for name in ("input", "dim"))
        dims = widths.dims[tensor] if isinstance(tensor, fx.Node) else None
        return dims[axis] if isinstance(dims, list) and isinstance(axis, int) else None
    if size.meta["op"] == "mul":
        factors = [fixed(factor) if isinstance(factor, int) else size_as_read(widths, factor) for factor in arguments(size).values()]
        return None if None in factors else product(factor for factor in factors if factor is not None)
    return None


def resized(size: Any, value: int, wanted: int) -> Any:
    """A size that is `value` in the member and must be `wanted`. One that the graph computes may hold a batch, so it is scaled."""
    if not isinstance(size, fx.Node) or not value:
        return wanted
    common = math.gcd(value, wanted)
    for function, operand in ((operator.mul, wanted // common), (operator.floordiv, value // common)):
        if operand != 1:
            before = size.meta["val"]
            made = size.graph.call_function(function, (size, operand))
            made.meta = {**size.meta, "val": function(before, operand), "op": function.__name__, "inplace": False, "signature": None}
            size = made
    return size
