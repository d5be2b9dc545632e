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
TRANSFORMS = [*ONE_AXIS, *TWO_AXES, *ANY_AXES, *SHIFTS]


def transformed(op: str, ndim: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[int], bool]:
    """The axes that a transform works along, and whether their lengths are given."""
    shift = op in SHIFTS
    sizes = None if shift else kwargs.get("s", kwargs.get("n", args[0] if args else None))
    position = 0 if shift else 1
    dim = kwargs.get("dim", args[position] if len(args) > position else None)
    if dim is None and op in ONE_AXIS:
        dim = -1
    elif dim is None and op in TWO_AXES:
        dim = (-2, -1)
    elif dim is None and isinstance(sizes, (tuple, list)):
        dim = tuple(range(-len(sizes), 0))
    return axes_of(ndim, dim), sizes is not None


def transform(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    """A transform keeps the axes it does not touch, and the length of those it does where none is given and none is halved."""
    axes, given = transformed(widths.node.meta["op"], len(x.dims), args, kwargs)
    dims = list(x.dims)
    for axis in axes:
        if given or widths.out.shape[axis] != x.shape[axis]:
            widths.pin(dims[axis], "its frequencies are counted")
            dims[axis] = fixed(widths.out.shape[axis])
    return dims


def as_complex(widths: WidthPropagation, x: Axes) -> list[Dim]:
    """``... 2 -> ...``."""
    widths.pin(x.dims[-1], "a real and an imaginary part")
    return x.dims[:-1]


def as_real(widths: WidthPropagation, x: Axes) -> list[Dim]:
    """``... -> ... 2``."""
    return [*x.dims, fixed(2)]


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_transform(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Right wherever the members are on an axis that is not transformed."""
    if not x.packed:
        return builder.native(node, (x, *args), kwargs, None)
    axes, _ = transformed(node.meta["op"], x.ndim, args, kwargs)
    if x.axis in axes or x.axis == FRONT:
        spared = next((axis for axis in range(x.ndim) if axis not in axes), None)
        if spared is None:
            return builder.fallback(node, (x, *args), kwargs, "it runs over all axes at once")
        x = builder.to(x, spared)
    return builder.native(node, (x, *args), kwargs, x.axis)


def pack_pairs(builder: PackBuilder, node: Any, x: Any) -> Any:
    """view_as_complex, view_as_real: the last axis comes or goes, the members are on another."""
    if node.meta["op"] == "view_as_complex" and x.packed and x.axis == x.ndim - 1:
        if x.ndim == 1:
            return builder.back(builder.emit(torch.view_as_complex, builder.front(x)), node.meta["val"])
        x = builder.to(x, 0)
    return builder.native(node, (x,), {}, x.axis)
