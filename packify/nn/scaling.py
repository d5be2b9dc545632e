"""What runs in networks whose members share weights: factors and masks on channels, one row per member."""

from __future__ import annotations

import torch
from torch import Tensor


def scale_channels(input: Tensor, values: Tensor, axis: int) -> Tensor:
    """One network's channels times one number each: input ``"... c ..."``, values ``"c"`` or ``"1 c"``; `axis` counts from the back.

    The factors take the input's dtype, so that under autocast they do not make it wide again.
    """
    return input * _like(values, input).view(-1, *[1] * (-axis - 1))


def shift_channels(input: Tensor, values: Tensor, axis: int) -> Tensor:
    """One network's channels plus one number each: input ``"... c ..."``, values ``"c"``; `axis` counts from the back."""
    return input + _like(values, input).view(-1, *[1] * (-axis - 1))


def scale_members(input: Tensor, values: Tensor, axis: int, ndim: int) -> Tensor:
    """`scale_channels` for every member: input ``"m ... c ..."``, or shared ``"... c ..."`` of `ndim` axes; values ``"m (1) c"``."""
    return input * _rows(values, input, axis, ndim)


def shift_members(input: Tensor, values: Tensor, axis: int, ndim: int) -> Tensor:
    """`shift_channels` for every member: input ``"m ... c ..."``, or shared ``"... c ..."`` of `ndim` axes; values ``"m c"``."""
    return input + _rows(values, input, axis, ndim)


def side_by_side(weight: Tensor, members: int) -> Tensor:
    """The weight that reads M inputs side by side: ``"(m o) i ..." -> "o (m i) ..."``."""
    wide: Tensor = weight.unflatten(0, (members, -1)).transpose(0, 1).flatten(1, 2)
    return wide


def sum_of_members(input: Tensor) -> Tensor:
    """What M members add up to: ``"m ... -> ..."``."""
    return input.sum(0)


def mix_members(input: Tensor) -> Tensor:
    """Where the members of a MIMO network become one: their sum, which of one member is that member."""
    return input


def read_channels(input: Tensor, values: Tensor, axis: int) -> Tensor:
    """A masked layer's input while a member is made slim: `scale_channels`, or, of a mask that is cut already, as many channels as it has.

    It is in no graph that runs on data: `take_channels` takes its place, or nothing does.
    """
    kept = values.shape[-1]
    return input.narrow(axis, 0, kept) if kept < input.shape[axis] else scale_channels(input, values, axis)


def take_channels(input: Tensor, positions: Tensor, axis: int) -> Tensor:
    """Some of the channels, in the order of their positions; `axis` counts from the back."""
    return torch.index_select(input, axis, positions)


def _rows(values: Tensor, input: Tensor, axis: int, ndim: int) -> Tensor:
    """``"m c"`` as ``"m 1 ... c ... 1"``."""
    rows: Tensor = _like(values, input).view(values.shape[0], *[1] * (ndim + axis), values.shape[-1], *[1] * (-axis - 1))
    return rows


def _like(values: Tensor, input: Tensor) -> Tensor:
    return values.to(input.dtype) if input.is_floating_point() and values.is_floating_point() else values
