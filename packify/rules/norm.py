"""Normalisation layers: their parameters have the width of what they normalise."""

from __future__ import annotations

from typing import Any

from packify.widths.dims import Dim, require_multiple
from packify.widths.walk import Axes, Call, Walk


def per_channel_module(walk: Walk, x: Axes, *args: Any) -> list[Dim]:
    """BatchNorm and InstanceNorm modules."""
    channels = x.dims[1]
    for name in ("weight", "bias", "running_mean", "running_var"):
        own = walk.parameter(name)
        if own is not None:
            walk.equate(own.dims[0], channels)
    return x.dims


def per_channel(walk: Walk, input: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    """F.batch_norm, F.instance_norm: everything one-dimensional belongs to the channels."""
    for own in (*args, *kwargs.values()):
        if isinstance(own, Axes) and own.val.dim() == 1:
            walk.equate(own.dims[0], input.dims[1])
    return input.dims


def group_norm(walk: Walk, input: Axes, num_groups: int, weight: Axes | None = None, bias: Axes | None = None, eps: float = 1e-5) -> list[Dim]:
    require_multiple(input.dims[1], num_groups)
    for own in (weight, bias):
        if own is not None:
            walk.equate(own.dims[0], input.dims[1])
    return input.dims


def layer_norm(walk: Walk, input: Axes, normalized_shape: Any, weight: Axes | None = None, bias: Axes | None = None, *args: Any, **kwargs: Any) -> list[Dim]:
    for own in (weight, bias):
        if own is not None:
            for dim, other in zip(own.dims, input.dims[-len(own.dims) :], strict=True):
                walk.equate(dim, other)
    return input.dims


def refit_layer_norm(args: Any, kwargs: Any, call: Call) -> Any:
    given = kwargs.get("normalized_shape", args[1] if len(args) > 1 else ())
    shape = tuple(call.shape[len(call.shape) - len(given) :])
    known = call.keywords.get("normalized_shape", call.values[1] if len(args) > 1 else ())
    if tuple(known) == shape:
        return args, kwargs
    if "normalized_shape" in kwargs:
        return args, {**kwargs, "normalized_shape": shape}
    return (args[0], shape, *args[2:]), kwargs


def local_response_norm(walk: Walk, input: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    return input.dims
