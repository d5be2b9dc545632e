"""Fourier transforms, and complex numbers seen as pairs of real ones."""

from __future__ import annotations

from typing import Any

import torch

from packify.nn.members import FRONT
from packify.ops.reduce import axes_of
from packify.packing.builder import PackBuilder
from packify.widths.dims import Dim, fixed
from packify.widths.propagation import Axes, WidthPropagation

ONE_AXIS = "fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft".split()
TWO_AXES = "fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2".split()
ANY_AXES = "fft_fftn fft_ifftn fft_rfftn fft_irfftn".split()
SHIFTS = "fft_fftshift fft_ifftshift".split()


def transformed(ndim: int, sizes: Any, dim: Any) -> list[int]:
    """The axes that a transform works along: without any the last ones that lengths are given for, else all."""
    return axes_of(ndim, tuple(range(-len(sizes), 0)) if dim is None and isinstance(sizes, (tuple, list)) else dim)


def transform(widths: WidthPropagation, input: Axes, n: Any = None, s: Any = None, dim: Any = None, **_: Any) -> list[Dim]:
    """A transform keeps the axes it does not touch, and the length of those it does where none is given and none is halved.

    Of the axes of a real transform the last is halved, or doubled; two frequencies of two numbers are no exception.
    """
    dims, axes = list(input.dims), transformed(len(input.dims), s, dim)
    is_real = any(kind in widths.node.meta["op"] for kind in ("rfft", "hfft"))
    for axis in axes:
        counted = n is not None or s is not None or (is_real and axis == axes[-1])
        if counted or widths.out.shape[axis] != input.shape[axis]:
            widths.pin(dims[axis], "its frequencies are counted")
            dims[axis] = fixed(widths.out.shape[axis])
    return dims


def as_complex(widths: WidthPropagation, input: Axes) -> list[Dim]:
    """``... 2 -> ...``."""
    widths.pin(input.dims[-1], "a real and an imaginary part")
    return input.dims[:-1]


def as_real(widths: WidthPropagation, input: Axes) -> list[Dim]:
    """``... -> ... 2``."""
    return [*input.dims, fixed(2)]


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_transform(builder: PackBuilder, node: Any, input: Any, s: Any = None, dim: Any = None, **_: Any) -> Any:
    """Right wherever the members are on an axis that is not transformed."""
    x = input
    if not x.packed:
        return builder.call(node, None)
    axes = transformed(x.ndim, s, dim)
    if x.axis in axes or x.axis == FRONT:
        spared = next((axis for axis in range(x.ndim) if axis not in axes), None)
        if spared is None:
            return builder.fallback(node, why="it runs over all axes at once")
        x = builder.to(x, spared)
    return builder.call(node, x.axis, input=x)


def pack_pairs(builder: PackBuilder, node: Any, input: Any) -> Any:
    """view_as_complex, view_as_real: the last axis comes or goes, the members are on another."""
    x = input
    if node.meta["op"] == "view_as_complex" and x.packed and x.axis == x.ndim - 1:
        if x.ndim == 1:
            return builder.back(builder.emit(torch.view_as_complex, builder.front(x)), node.meta["val"])
        x = builder.to(x, 0)
    return builder.call(node, x.axis, input=x)
