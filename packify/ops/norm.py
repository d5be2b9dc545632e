"""Normalisation layers: their parameters have the width of what they normalise."""

from __future__ import annotations

from typing import Any

from torch.nn import functional as F

from packify.nn.functional import affine, layer_norm_in_place, rms_norm_in_place
from packify.nn.members import FRONT
from packify.ops.sizes import resized
from packify.packing.builder import PackBuilder, PackedValue
from packify.widths.dims import Dim, fixed, require_multiple
from packify.widths.propagation import Axes, Call, WidthPropagation


def per_channel_module(widths: WidthPropagation, input: Axes) -> list[Dim]:
    """BatchNorm and InstanceNorm modules."""
    channels = input.dims[1]
    for name in ("weight", "bias", "running_mean", "running_var"):
        own = widths.parameter(name)
        if own is not None:
            widths.equate(own.dims[0], channels)
    return input.dims


def per_channel(widths: WidthPropagation, input: Axes, **others: Any) -> list[Dim]:
    """F.batch_norm, F.instance_norm: everything one-dimensional belongs to the channels."""
    for own in others.values():
        if isinstance(own, Axes) and own.val.dim() == 1:
            widths.equate(own.dims[0], input.dims[1])
    return input.dims


def group_norm(widths: WidthPropagation, input: Axes, num_groups: int, weight: Axes | None, bias: Axes | None, **_: Any) -> list[Dim]:
    if num_groups == input.shape[1] > 1:  # one channel each
        widths.cut(1, fixed(0), input.dims[1], fixed(0))
    else:
        require_multiple(input.dims[1], num_groups, widths.reason("groups of channels"))
    for own in (weight, bias):
        if own is not None:
            widths.equate(own.dims[0], input.dims[1])
    return input.dims


def refit_group_norm(call: Call, num_groups: Any, **_: Any) -> dict[str, Any]:
    """A group per channel, marked by its cut, stays one."""
    return {"num_groups": resized(num_groups, call.values["num_groups"], call.cuts[1][1])} if 1 in call.cuts else {}


def layer_norm(
    widths: WidthPropagation,
    input: Axes,
    weight: Axes | None,
    bias: Axes | None = None,
    **_: Any,
) -> list[Dim]:
    for own in (weight, bias):
        if own is not None:
            for dim, other in zip(own.dims, input.dims[-len(own.dims) :], strict=True):
                widths.equate(dim, other)
    return input.dims


def refit_layer_norm(call: Call, **_: Any) -> dict[str, Any]:
    known = tuple(call.values["normalized_shape"])
    shape = tuple(call.shape[len(call.shape) - len(known) :])
    return {} if known == shape else {"normalized_shape": shape}


def weight_norm(widths: WidthPropagation, v: Axes, g: Axes, dim: int) -> list[Dim]:
    """A direction and its length; the length has one value per slice."""
    for own, other in zip(v.dims, g.dims, strict=False):
        if other.root().size != 1:
            widths.equate(own, other)
    return v.dims


def local_response_norm(widths: WidthPropagation, input: Axes, **_: Any) -> list[Dim]:
    return input.dims


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_channels(builder: PackBuilder, node: Any, input: Any, **others: Any) -> Any:
    """Per-channel layers know nothing but channels: M times as many of them, members outermost."""
    parameters = {name: value for name, value in others.items() if isinstance(value, PackedValue)}
    own = _has_tensors(builder, node) if node.op == "call_module" else any(tensor.packed for tensor in parameters.values())
    if not input.packed and not own:
        return builder.call(node, None)
    axis = 1 if input.ndim > 1 else 0
    moved = {name: builder.to(tensor, 0) for name, tensor in parameters.items()}
    return builder.call(node, axis, input=builder.to(input, axis), **moved)


def _has_tensors(builder: PackBuilder, node: Any) -> bool:
    module = builder.root.get_submodule(str(node.target))
    return any(tensor is not None for tensor in (*module._parameters.values(), *module._buffers.values()))


def pack_group_norm(builder: PackBuilder, node: Any, input: Any, num_groups: int, weight: Any, bias: Any, **_: Any) -> Any:
    parameters = {name: tensor for name, tensor in (("weight", weight), ("bias", bias)) if tensor is not None}
    if not any(tensor.packed for tensor in (input, *parameters.values())):
        return builder.call(node, None)
    if input.axis == 0 and not any(tensor.packed for tensor in parameters.values()):
        return builder.call(node, 0)
    moved = {name: builder.to(tensor, 0) for name, tensor in parameters.items()}
    return builder.call(node, 1, input=builder.to(input, 1), num_groups=builder.times(num_groups), **moved)


def pack_layer_norm(builder: PackBuilder, node: Any, input: Any, normalized_shape: Any, weight: Any, eps: Any, bias: Any = None) -> Any:
    """Normalise without parameters, then scale and shift each member by its own."""
    value = node.meta["val"]
    parameters = [tensor for tensor in (weight, bias) if tensor is not None]
    if not any(tensor.packed for tensor in (input, *parameters)):
        return builder.call(node, None)
    function = F.rms_norm if node.meta["op"] == "rms_norm" else F.layer_norm
    outside = input.axis != FRONT and (not input.packed or input.axis < input.ndim - len(normalized_shape))
    if not any(tensor.packed for tensor in parameters) and outside:
        return builder.call(node, input.axis)
    if not input.packed:
        input = builder.to(input, 0)
    last = input.ndim - 1
    if input.axis == last > 0 and len(normalized_shape) == 1 and builder.choose(last) == last:
        own = [None if tensor is None else builder.to(tensor, 0) for tensor in (weight, bias)]
        if function is F.rms_norm:
            made = builder.emit(rms_norm_in_place, input, normalized_shape, own[0], eps, builder.members)
        else:
            made = builder.emit(layer_norm_in_place, input, normalized_shape, *own, eps, builder.members)
        return builder.result(made, value, last)
    normal = builder.emit(function, builder.front(input), normalized_shape, eps=eps)
    scale, shift = (None if tensor is None else builder.front(builder.to(tensor, FRONT)) for tensor in (weight, bias))
    return builder.back(builder.emit(affine, normal, scale, shift), value)


def pack_weight_norm(builder: PackBuilder, node: Any, v: Any, g: Any, dim: int) -> Any:
    """Slices are normalised one by one: right where the members are on the axis of the slices."""
    if not (v.packed or g.packed):
        return builder.call(node, None)
    axis = dim % v.ndim
    if g.ndim != v.ndim:
        return builder.fallback(node)
    return builder.call(node, axis, v=builder.to(v, axis), g=builder.to(g, axis))
