"""Operators that treat every element alike: arithmetic, activations, comparisons, dropout. Widths pass through unchanged."""

from __future__ import annotations

from typing import Any

import torch

from packify.nn.members import FRONT
from packify.ops.creation import sized
from packify.packing.builder import PackBuilder, PackedValue, map_packed_values, packed_values_in
from packify.widths.dims import Dim
from packify.widths.propagation import Axes, WidthPropagation, tensors


def elementwise(widths: WidthPropagation, /, **arguments: Any) -> Any:
    operands = tensors(arguments)
    if not isinstance(widths.out, torch.Tensor):
        return widths.structure()
    if not operands:
        return sized(widths)
    dims = widths.broadcast(*operands)
    return dims[len(dims) - widths.out.dim() :]


def cast(widths: WidthPropagation, input: Axes, **_: Any) -> list[Dim]:
    """``x.to(other)``: of other tensors only the dtype and the device are read."""
    return input.dims


def pack_cast(builder: PackBuilder, node: Any, input: Any, **_: Any) -> Any:
    return builder.call(node, input.axis)


def prelu(widths: WidthPropagation, input: Axes, weight: Axes) -> Any:
    if weight.dims and weight.val.numel() > 1 and len(input.dims) > 1:
        widths.equate(weight.dims[0], input.dims[1])
    return input.dims


# -- how members are packed --------------------------------------------------------------------------------------------


def pack(builder: PackBuilder, node: Any, /, **arguments: Any) -> Any:
    """Broadcasting members together: on a common axis where every operand has one, else on an axis of their own."""
    args, kwargs = builder.values(node)
    operands = packed_values_in((args, kwargs))
    value, training = node.meta["val"], arguments.get("training", True) is not False
    if node.meta.get("random") and training and operands and not any(operand.packed for operand in operands):
        first = (
            builder.to(operands[0], 0)
            if operands[0].ndim
            else PackedValue(builder.emit(spread_front, operands[0], builder.members), FRONT, operands[0].val)
        )
        args, kwargs = map_first(args, kwargs, operands[0], first)
        operands = packed_values_in((args, kwargs))
    if not isinstance(value, torch.Tensor):
        return (
            builder.fallback(node, args, kwargs)
            if any(operand.packed for operand in operands)
            else builder.native(node, args, kwargs, None)
        )
    wish = builder.meet(operands, value)
    if wish is not None:
        args, kwargs = (map_packed_values(part, lambda one: _where_wished(builder, one, value, wish)) for part in (args, kwargs))
        operands = packed_values_in((args, kwargs))
    axis = common_axis(operands, value)
    if axis is None:
        return builder.native(node, args, kwargs, None)
    if axis == FRONT:
        made = builder.again(
            node,
            map_packed_values(args, lambda r: _front(builder, r, value.dim())),
            map_packed_values(kwargs, lambda r: _front(builder, r, value.dim())),
        )
        return builder.back(made, value, _axis_of_memory(operands, value))
    back = axis - value.dim()
    args, kwargs = (map_packed_values(part, lambda r: _aligned(builder, r, back)) for part in (args, kwargs))
    return builder.native(node, args, kwargs, axis)


def _where_wished(builder: PackBuilder, tensor: PackedValue, value: torch.Tensor, wish: int) -> PackedValue:
    """A packed operand with its members on the axis that is wished for, where it has that in full."""
    is_whole = tensor.packed and tensor.axis != FRONT and tensor.ndim == value.dim() and tensor.shape[wish] == value.shape[wish]
    return builder.to(tensor, wish) if is_whole else tensor


def common_axis(operands: list[PackedValue], value: torch.Tensor) -> int | None:
    """The axis of the output on which all packed operands can carry their members.

    None if none is packed, `FRONT` if there is no such axis.
    """
    packed = [operand for operand in operands if operand.axis is not None]
    if not packed:
        return None
    ndim = value.dim()
    for leader in sorted(packed, key=lambda r: -r.val.numel()):
        if leader.axis == FRONT:
            continue
        back = int(leader.axis or 0) - leader.ndim
        axis = ndim + back
        if axis < 0:
            continue
        size = value.shape[axis]
        fits = all(other.axis != FRONT and other.ndim >= -back and other.shape[back] == size for other in packed)
        return axis if fits else FRONT
    return FRONT


def _axis_of_memory(operands: list[PackedValue], value: torch.Tensor) -> int:
    """Where the members of a result lie in memory: torch gives it the order of the first operand of its shape, if there is one."""
    return next((int(one.axis) for one in operands if one.axis not in (None, FRONT) and one.val.shape == value.shape), 0)


def _aligned(builder: PackBuilder, tensor: PackedValue, back: int) -> PackedValue:
    """An operand with its members on the common axis, counted from the back; a shared one that is constant along it stays."""
    if tensor.axis is None and (tensor.ndim < -back or tensor.shape[back] == 1):
        return tensor
    return builder.to(tensor, tensor.ndim + back)


def _front(builder: PackBuilder, tensor: PackedValue, ndim: int) -> Any:
    return builder.front(tensor, ndim) if tensor.packed else tensor


def spread_front(tensor: torch.Tensor, members: int) -> torch.Tensor:
    """A shared scalar, once per member: ``"m"``."""
    return tensor.unsqueeze(0).repeat(members)


def map_first(args: Any, kwargs: Any, old: PackedValue, new: PackedValue) -> tuple[Any, Any]:
    """Arguments with one operand exchanged."""
    return tuple(map_packed_values(part, lambda r: new if r is old else r) for part in (args, kwargs))


def pack_prelu(builder: PackBuilder, node: Any, input: Any, weight: Any) -> Any:
    if not (input.packed or weight.packed):
        return builder.call(node, None)
    if not weight.packed:
        x = input if weight.val.numel() == 1 else builder.to(input, 0)
        return builder.call(node, x.axis, input=x)
    if input.ndim < 2:
        return builder.fallback(node)
    x, weight = builder.to(input, 1), builder.to(weight, 0)
    if weight.val.numel() == 1 and x.shape[1] != 1:
        weight = builder.result(builder.emit(torch.repeat_interleave, weight, x.shape[1]), x.val.new_empty(x.shape[1]), 0)
    return builder.call(node, 1, input=x, weight=weight)
