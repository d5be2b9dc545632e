"""Operators over resolution: pooling, interpolation, sampling."""

from __future__ import annotations

from typing import Any

import torch

from packify.nn.members import FRONT
from packify.ops.sizes import resolution
from packify.packing.builder import PackBuilder
from packify.widths.dims import fixed, quotient
from packify.widths.propagation import Axes, WidthPropagation

RANKS = (1, 2, 3)
POOLS = {
    "max": "input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False",
    "avg": "input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None",
    "lp": "input, norm_type, kernel_size, stride=None, ceil_mode=False",
    "adaptive_max": "input, output_size, return_indices=False",
    "adaptive_avg": "input, output_size",
    "fractional_max": "input, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None",
}


def pool_names(kind: str) -> list[str]:
    """``max_pool1d`` to ``max_pool3d``, and those that return indices too."""
    names = [f"{kind}_pool{rank}d" for rank in RANKS]
    return names + [f"{name}_with_indices" for name in names if "max" in kind]


def pool(widths: WidthPropagation, input: Axes, **_: Any) -> Any:
    first = widths.out if isinstance(widths.out, torch.Tensor) else widths.out[0]
    rank = next((rank for rank in RANKS if f"{rank}d" in widths.node.meta["op"]), len(input.dims) - 2)
    kept = len(input.dims) - rank
    dims = [*input.dims[:kept], *resolution(widths, input.dims[kept:], first.shape[kept:])]
    return dims if first is widths.out else tuple(dims for _ in widths.out)


def grid_sample(widths: WidthPropagation, input: Axes, grid: Axes, **_: Any) -> Any:
    widths.equate(input.dims[0], grid.dims[0])
    widths.pin_all(grid, "sampling positions")
    for dim in input.dims[2:]:
        widths.pin(dim, "a spatial axis")
    return [*input.dims[:2], *(fixed(size) for size in widths.out.shape[2:])]


def deform_conv(widths: WidthPropagation, input: Axes, weight: Axes, offset: Axes, mask: Axes, bias: Axes, groups: int, **_: Any) -> Any:
    """A conv that samples where its offsets say. Offsets and masks have one entry per cell of the kernel."""
    for axes in (offset, mask):
        for dim in axes.dims[1:]:
            widths.pin(dim, "sampling positions")
    for dim in (*input.dims[2:], *weight.dims[2:]):
        widths.pin(dim, "a spatial axis")
    widths.equate(weight.dims[1], quotient(input.dims[1], groups))
    quotient(weight.dims[0], groups)
    widths.equate(bias.dims[0], weight.dims[0])
    widths.layer(weight.dims[0])
    return [input.dims[0], weight.dims[0], *(fixed(size) for size in widths.out.shape[2:])]


def regions(widths: WidthPropagation, input: Axes, rois: Axes, **_: Any) -> Any:
    """roi_align, roi_pool: boxes of shared size, cut out of every channel."""
    widths.pin_all(rois, "positions")
    for dim in input.dims[2:]:
        widths.pin(dim, "a spatial axis")
    first = widths.out if isinstance(widths.out, torch.Tensor) else widths.out[0]
    dims = [rois.dims[0], input.dims[1], *(fixed(size) for size in first.shape[2:])]
    return dims if first is widths.out else (dims, dims)


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_image(builder: PackBuilder, node: Any, input: Any, **_: Any) -> Any:
    """Pooling and interpolation treat batch and channels alike: members may be on either."""
    x = input
    rank = next((rank for rank in RANKS if f"{rank}d" in node.meta["op"]), x.ndim - 2)
    if x.packed and (x.axis == FRONT or x.axis >= x.ndim - rank):
        x = builder.to(x, 0)
    return builder.call(node, x.axis, input=x)


def pack_grid_sample(builder: PackBuilder, node: Any, input: Any, grid: Any, **_: Any) -> Any:
    if not grid.packed and input.axis in (None, 1):
        return builder.call(node, input.axis)
    return builder.call(node, 0, input=builder.to(input, 0), grid=builder.to(grid, 0))


def pack_regions(builder: PackBuilder, node: Any, input: Any, rois: Any, **_: Any) -> Any:
    """Shared boxes read every channel alike: the members are on the channels."""
    if rois.packed:
        return builder.fallback(node, why="each member has its own boxes")
    if not input.packed:
        return builder.call(node, None)
    return builder.call(node, 1, input=builder.to(input, 1))
