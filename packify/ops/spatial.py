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
POOLS = [f"{kind}_pool{rank}d" for kind in ("max", "avg", "lp", "adaptive_max", "adaptive_avg", "fractional_max") for rank in RANKS]
POOLS += [f"{name}_with_indices" for name in POOLS if "max" in name]


def pool(widths: WidthPropagation, x: Axes, *args: Any, **kwargs: Any) -> Any:
    first = widths.out if isinstance(widths.out, torch.Tensor) else widths.out[0]
    rank = next((rank for rank in RANKS if f"{rank}d" in widths.node.meta["op"]), len(x.dims) - 2)
    kept = len(x.dims) - rank
    dims = [*x.dims[:kept], *resolution(widths, x.dims[kept:], first.shape[kept:])]
    return dims if first is widths.out else tuple(dims for _ in widths.out)


def grid_sample(widths: WidthPropagation, input: Axes, grid: Axes, *args: Any, **kwargs: Any) -> Any:
    widths.pin_all(grid, "sampling positions")
    for dim in input.dims[2:]:
        widths.pin(dim, "a spatial axis")
    return [*input.dims[:2], *(fixed(size) for size in widths.out.shape[2:])]


def deform_conv(widths: WidthPropagation, input: Axes, weight: Axes, offset: Axes, mask: Axes, bias: Axes, *args: Any) -> Any:
    """A conv that samples where its offsets say. Offsets and masks have one entry per cell of the kernel."""
    groups = args[6]
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


def regions(widths: WidthPropagation, input: Axes, rois: Axes, *args: Any) -> Any:
    """roi_align, roi_pool: boxes of shared size, cut out of every channel."""
    widths.pin_all(rois, "positions")
    for dim in input.dims[2:]:
        widths.pin(dim, "a spatial axis")
    first = widths.out if isinstance(widths.out, torch.Tensor) else widths.out[0]
    dims = [rois.dims[0], input.dims[1], *(fixed(size) for size in first.shape[2:])]
    return dims if first is widths.out else (dims, dims)


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_image(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Pooling and interpolation treat batch and channels alike: members may be on either."""
    rank = next((rank for rank in RANKS if f"{rank}d" in node.meta["op"]), x.ndim - 2)
    if x.packed and (x.axis == FRONT or x.axis >= x.ndim - rank):
        x = builder.to(x, 0)
    return builder.native(node, (x, *args), kwargs, x.axis)


def pack_grid_sample(builder: PackBuilder, node: Any, input: Any, grid: Any, *args: Any, **kwargs: Any) -> Any:
    if not grid.packed and input.axis in (None, 1):
        return builder.native(node, (input, grid, *args), kwargs, input.axis)
    return builder.native(node, (builder.to(input, 0), builder.to(grid, 0), *args), kwargs, 0)


def pack_regions(builder: PackBuilder, node: Any, input: Any, rois: Any, *args: Any) -> Any:
    """Shared boxes read every channel alike: the members are on the channels."""
    if rois.packed:
        return builder.fallback(node, (input, rois, *args), {}, "each member has its own boxes")
    if not input.packed:
        return builder.native(node, (input, rois, *args), {}, None)
    return builder.native(node, (builder.to(input, 1), rois, *args), {}, 1)
