"""Operators over resolution: pooling, interpolation, sampling."""

from __future__ import annotations

from typing import Any

import torch

from packify.packing.members import FRONT
from packify.packing.ride import Rider
from packify.rules.sizes import resolution
from packify.widths.dims import fixed, quotient
from packify.widths.walk import Axes, Walk

RANKS = (1, 2, 3)
POOLS = [f"{kind}_pool{rank}d" for kind in ("max", "avg", "lp", "adaptive_max", "adaptive_avg", "fractional_max") for rank in RANKS]
POOLS += [f"{name}_with_indices" for name in POOLS if "max" in name]


def pool(walk: Walk, x: Axes, *args: Any, **kwargs: Any) -> Any:
    first = walk.out if isinstance(walk.out, torch.Tensor) else walk.out[0]
    rank = next((rank for rank in RANKS if f"{rank}d" in walk.node.meta["op"]), len(x.dims) - 2)
    kept = len(x.dims) - rank
    dims = [*x.dims[:kept], *resolution(walk, x.dims[kept:], first.shape[kept:])]
    return dims if first is walk.out else tuple(dims for _ in walk.out)


def grid_sample(walk: Walk, input: Axes, grid: Axes, *args: Any, **kwargs: Any) -> Any:
    walk.pin_all(grid, "sampling positions")
    for dim in input.dims[2:]:
        walk.pin(dim, "a spatial axis")
    return [*input.dims[:2], *(fixed(size) for size in walk.out.shape[2:])]


def deform_conv(walk: Walk, input: Axes, weight: Axes, offset: Axes, mask: Axes, bias: Axes, *args: Any) -> Any:
    """A conv that samples where its offsets say. Offsets and masks have one entry per cell of the kernel."""
    groups = args[6]
    for axes in (offset, mask):
        for dim in axes.dims[1:]:
            walk.pin(dim, "sampling positions")
    for dim in (*input.dims[2:], *weight.dims[2:]):
        walk.pin(dim, "a spatial axis")
    walk.equate(weight.dims[1], quotient(input.dims[1], groups))
    quotient(weight.dims[0], groups)
    walk.equate(bias.dims[0], weight.dims[0])
    walk.layer(weight.dims[0])
    return [input.dims[0], weight.dims[0], *(fixed(size) for size in walk.out.shape[2:])]


def regions(walk: Walk, input: Axes, rois: Axes, *args: Any) -> Any:
    """roi_align, roi_pool: boxes of shared size, cut out of every channel."""
    walk.pin_all(rois, "positions")
    for dim in input.dims[2:]:
        walk.pin(dim, "a spatial axis")
    first = walk.out if isinstance(walk.out, torch.Tensor) else walk.out[0]
    dims = [rois.dims[0], input.dims[1], *(fixed(size) for size in first.shape[2:])]
    return dims if first is walk.out else (dims, dims)


# -- how members ride ----------------------------------------------------------------------------------------------------


def ride_image(rider: Rider, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Pooling and interpolation treat batch and channels alike: members ride on either."""
    rank = next((rank for rank in RANKS if f"{rank}d" in node.meta["op"]), x.ndim - 2)
    if x.packed and (x.axis == FRONT or x.axis >= x.ndim - rank):
        x = rider.to(x, 0)
    return rider.native(node, (x, *args), kwargs, x.axis)


def ride_grid_sample(rider: Rider, node: Any, input: Any, grid: Any, *args: Any, **kwargs: Any) -> Any:
    if not grid.packed and input.axis in (None, 1):
        return rider.native(node, (input, grid, *args), kwargs, input.axis)
    return rider.native(node, (rider.to(input, 0), rider.to(grid, 0), *args), kwargs, 0)


def ride_regions(rider: Rider, node: Any, input: Any, rois: Any, *args: Any) -> Any:
    """Shared boxes read every channel alike: the members ride on the channels."""
    if rois.packed:
        return rider.fallback(node, (input, rois, *args), {}, "each member has its own boxes")
    if not input.packed:
        return rider.native(node, (input, rois, *args), {}, None)
    return rider.native(node, (rider.to(input, 1), rois, *args), {}, 1)
