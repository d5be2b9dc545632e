"""Normalisation layers: their parameters have the width of what they normalise."""

from __future__ import annotations

from typing import Any

from torch.nn import functional as F

from packify.nn.functional import affine
from packify.nn.members import FRONT
from packify.ops.sizes import resized
from packify.packing.builder import PackBuilder, map_packed_values, packed_values_in
from packify.widths.dims import Dim, fixed, require_multiple
from packify.widths.propagation import Axes, Call, WidthPropagation


def per_channel_module(widths: WidthPropagation, x: Axes, *args: Any) -> list[Dim]:
    """BatchNorm and InstanceNorm modules."""
    channels = x.dims[1]
    for name in ("weight", "bias", "running_mean", "running_var"):
        own = widths.parameter(name)
        if own is not None:
            widths.equate(own.dims[0], channels)
    return x.dims


def per_channel(widths: WidthPropagation, input: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    """F.batch_norm, F.instance_norm: everything one-dimensional belongs to the channels."""
    for own in (*args, *kwargs.values()):
        if isinstance(own, Axes) and own.val.dim() == 1:
            widths.equate(own.dims[0], input.dims[1])
    return input.dims


def group_norm(
    widths: WidthPropagation, input: Axes, num_groups: int, weight: Axes | None = None, bias: Axes | None = None, *args: Any, **kwargs: Any
) -> list[Dim]:
    if num_groups == input.shape[1] > 1:  # one channel each
        widths.cut(1, fixed(0), input.dims[1], fixed(0))
    else:
        require_multiple(input.dims[1], num_groups, widths.reason("groups of channels"))
    for own in (weight, bias):
        if own is not None:
            widths.equate(own.dims[0], input.dims[1])
    return input.dims


def refit_group_norm(args: Any, kwargs: Any, call: Call) -> Any:
    """A group per channel, marked by its cut, stays one."""
    if 1 not in call.cuts:
        return args, kwargs
    if "num_groups" in kwargs:
        return args, {**kwargs, "num_groups": resized(kwargs["num_groups"], call.keywords["num_groups"], call.cuts[1][1])}
    return (args[0], resized(args[1], call.values[1], call.cuts[1][1]), *args[2:]), kwargs


def layer_norm(
    widths: WidthPropagation,
    input: Axes,
    normalized_shape: Any,
    weight: Axes | None = None,
    bias: Axes | None = None,
    *args: Any,
    **kwargs: Any,
) -> list[Dim]:
    for own in (weight, bias):
        if own is not None:
            for dim, other in zip(own.dims, input.dims[-len(own.dims) :], strict=True):
                widths.equate(dim, other)
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


def weight_norm(widths: WidthPropagation, v: Axes, g: Axes, dim: int = 0) -> list[Dim]:
    """A direction and its length; the length has one value per slice."""
    for own, other in zip(v.dims, g.dims, strict=False):
        if other.root().size != 1:
            widths.equate(own, other)
    return v.dims


def local_response_norm(widths: WidthPropagation, input: Axes, *args: Any, **kwargs: Any) -> list[Dim]:
    return input.dims


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_channels(builder: PackBuilder, node: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Per-channel layers know nothing but channels: M times as many of them, members outermost."""
    parameters = packed_values_in((args, kwargs))
    if not x.packed and not any(tensor.packed for tensor in parameters) and node.op != "call_module":
        return builder.native(node, (x, *args), kwargs, None)
    if node.op == "call_module" and not _has_tensors(builder, node) and not x.packed:
        return builder.native(node, (x, *args), kwargs, None)
    args, kwargs = (map_packed_values(part, lambda tensor: builder.to(tensor, 0)) for part in (args, kwargs))
    axis = 1 if x.ndim > 1 else 0
    return builder.native(node, (builder.to(x, axis), *args), kwargs, axis)


def _has_tensors(builder: PackBuilder, node: Any) -> bool:
    module = builder.root.get_submodule(str(node.target))
    return any(tensor is not None for tensor in (*module._parameters.values(), *module._buffers.values()))


def pack_group_norm(
    builder: PackBuilder, node: Any, input: Any, num_groups: int, weight: Any = None, bias: Any = None, *args: Any, **kwargs: Any
) -> Any:
    parameters = [tensor for tensor in (weight, bias) if tensor is not None]
    if not any(tensor.packed for tensor in (input, *parameters)):
        return builder.native(node, (input, num_groups, weight, bias, *args), kwargs, None)
    if input.axis == 0 and not any(tensor.packed for tensor in parameters):
        return builder.native(node, (input, num_groups, weight, bias, *args), kwargs, 0)
    weight, bias = (None if tensor is None else builder.to(tensor, 0) for tensor in (weight, bias))
    return builder.native(node, (builder.to(input, 1), builder.times(num_groups), weight, bias, *args), kwargs, 1)


def pack_layer_norm(builder: PackBuilder, node: Any, input: Any, normalized_shape: Any, *args: Any, **kwargs: Any) -> Any:
    """Normalise without parameters, then scale and shift each member by its own."""
    value = node.meta["val"]
    rms = node.meta["op"] == "rms_norm"
    names = ("weight", "eps") if rms else ("weight", "bias", "eps")
    given = dict(zip(names, args, strict=False)) | kwargs
    weight, bias = given.pop("weight", None), given.pop("bias", None)
    parameters = [tensor for tensor in (weight, bias) if tensor is not None]
    if not any(tensor.packed for tensor in (input, *parameters)):
        return builder.native(node, (input, normalized_shape, *args), kwargs, None)
    function = F.rms_norm if rms else F.layer_norm
    outside = input.axis != FRONT and (not input.packed or input.axis < input.ndim - len(normalized_shape))
    if not any(tensor.packed for tensor in parameters) and outside:
        return builder.native(node, (input, normalized_shape, *args), kwargs, input.axis)
    if not input.packed:
        input = builder.to(input, 0)
    normal = builder.emit(function, builder.front(input), normalized_shape, **given)
    scale, shift = (None if tensor is None else builder.front(builder.to(tensor, FRONT)) for tensor in (weight, bias))
    return builder.back(builder.emit(affine, normal, scale, shift), value)


def pack_weight_norm(builder: PackBuilder, node: Any, v: Any, g: Any, dim: int = 0) -> Any:
    """Slices are normalised one by one: right where the members are on the axis of the slices."""
    if not (v.packed or g.packed):
        return builder.native(node, (v, g, dim), {}, None)
    axis = dim % v.ndim
    if g.ndim != v.ndim:
        return builder.fallback(node, (v, g, dim), {})
    return builder.native(node, (builder.to(v, axis), builder.to(g, axis), dim), {}, axis)
