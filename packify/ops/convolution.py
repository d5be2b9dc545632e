"""Convolutions of every rank, plain and transposed: their weights decide channels, their groups follow them."""

from __future__ import annotations

from typing import Any

from packify.nn.members import FRONT
from packify.ops.contraction import member_major
from packify.ops.sizes import resized, resolution
from packify.packing.builder import PackBuilder
from packify.widths.dims import Dim, Product, fixed, free, product, quotient
from packify.widths.groups import ONE_GROUP
from packify.widths.propagation import Axes, Call, WidthPropagation


def conv(
    widths: WidthPropagation,
    input: Axes,
    weight: Axes,
    bias: Axes | None,
    groups: int,
    **_: Any,
) -> list[Dim]:
    batched = input.val.dim() == weight.val.dim()
    channels = input.dims[1 if batched else 0]
    out = weight.dims[0]
    widths.keep_frozen_constant(weight, weight.shape[1])
    widths.reads(channels)
    if input.learned:
        widths.layer(channels)
    spatial = _spatial(widths, input, weight)
    if groups in widths.scaled_groups or groups_follow_width(groups, weight.shape[1], weight.shape[0] // groups):
        _one_or_few_per_group(widths, channels, out, weight.dims[1], groups)
    elif groups > 1:
        per_group = one_group(channels, groups, widths)
        if weight.shape[1] > 1:
            widths.equate(weight.dims[1], per_group)
        one_group(out, groups, widths)
    else:
        widths.equate(weight.dims[1], channels)
    return _convolved(widths, input, out, bias, batched, spatial)


def conv_transpose(
    widths: WidthPropagation,
    input: Axes,
    weight: Axes,
    bias: Axes | None,
    groups: int,
    **_: Any,
) -> list[Dim]:
    batched = input.val.dim() == weight.val.dim()
    channels = input.dims[1 if batched else 0]
    spatial = _spatial(widths, input, weight)
    widths.equate(weight.dims[0], channels)
    widths.reads(channels)
    if input.learned:
        widths.layer(channels)
    if groups == 1:
        out = weight.dims[1]
    elif groups in widths.scaled_groups or groups_follow_width(groups, channels.root().size // groups, weight.shape[1]):
        out = free(groups * weight.shape[1])
        _one_or_few_per_group(widths, channels, out, weight.dims[1], groups)
    else:
        quotient(channels, groups, widths.reason("groups of channels"))
        out = product([fixed(groups), weight.dims[1]])
    return _convolved(widths, input, out, bias, batched, spatial)


def one_group(channels: Dim, groups: int, widths: WidthPropagation) -> Dim:
    """The size of one of several equal groups: of ``(groups c)`` it is ``c``."""
    root = channels.root()
    if isinstance(root, Product) and root.parts[0].root().size == groups and root.parts[0].is_pinned():
        return product(root.parts[1:])
    return quotient(channels, groups, widths.reason("groups of channels"))


def _spatial(widths: WidthPropagation, input: Axes, weight: Axes) -> list[Dim]:
    for dim in weight.dims[2:]:
        widths.pin(dim, "a kernel size")
    rank = weight.val.dim() - 2
    return resolution(widths, input.dims[-rank:], widths.out.shape[-rank:], weight.shape[2:])


def _one_or_few_per_group(widths: WidthPropagation, channels: Dim, out: Dim, in_weight: Dim, groups: int) -> None:
    """The group count is the width; what one group reads and writes stays."""
    width = channels if channels.root().size == groups else out if out.root().size == groups else free(groups)
    for dim in (channels, out):
        if dim is not width:
            widths.equate(dim, product([width, fixed(dim.root().size // groups, widths.reason(ONE_GROUP))]))
    widths.pin(in_weight, ONE_GROUP)
    widths.cut(1, fixed(0), width, fixed(0))


def _convolved(widths: WidthPropagation, input: Axes, out: Dim, bias: Axes | None, batched: bool, spatial: list[Dim]) -> list[Dim]:
    widths.layer(out)
    if bias is not None:
        widths.equate(bias.dims[0], out)
    lead = [input.dims[0]] if batched else []
    return [*lead, out, *spatial]


def groups_follow_width(groups: int, read: int, written: int) -> bool:
    """Whether the number of groups is the width, as in a depthwise conv, and not the channels of one group.

    Args:
        groups: of the conv.
        read, written: input and output channels of one group.
    """
    return groups > 1 and (read == 1 or (written == 1 and read < groups))


def refit_conv(call: Call, groups: Any, **_: Any) -> dict[str, Any]:
    """A conv whose groups are a width, marked by its cut, has as many as that."""
    return {"groups": resized(groups, call.values["groups"], call.cuts[1][1])} if 1 in call.cuts else {}


# -- how members are packed --------------------------------------------------------------------------------------------


def pack_conv(builder: PackBuilder, node: Any, input: Any, weight: Any, bias: Any, groups: Any, **_: Any) -> Any:
    """A grouped conv over ``b (m c) ...``; a shared input with one group needs none (paper, Figure 3c)."""
    transposed = "transpose" in node.meta["op"]
    weight, bias = member_major(builder, weight), member_major(builder, bias)
    if not (input.packed or weight.packed or (bias is not None and bias.packed)):
        return builder.call(node, None)
    channels = 1 if input.ndim == weight.ndim else 0
    weight = builder.to(weight, 0)
    bias = builder.to(bias, 0) if bias is not None else None
    shared = not (input.packed or groups != 1 or transposed)
    (builder.ungrouped if shared else builder.grouped).add(str(weight.node.target))
    if not shared:
        input = builder.to(input, channels)
        groups = builder.times(groups)
    changes = {"input": input, "weight": weight, **({} if bias is None else {"bias": bias}), **({} if shared else {"groups": groups})}
    return builder.call(node, channels, **changes)


def pack_reordered(builder: PackBuilder, node: Any, input: Any, axis: int, groups: int, **_: Any) -> Any:
    """The rows of a layer that gamma cuts, in the order of its subgroups, or its outputs in that of their parts: each member's own."""
    if input.axis == axis:
        return builder.call(node, axis, groups=builder.times(groups))
    return builder.call(node, input.axis) if input.axis != FRONT else builder.call(node, FRONT, axis=axis + 1)
