"""How members that share weights are packed: in the batch, ``"(m b) ..."``, where one call of a shared layer serves them all."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from packify.nn.scaling import (
    mix_members,
    read_channels,
    scale_channels,
    scale_members,
    shift_channels,
    shift_members,
    side_by_side,
    sum_of_members,
)
from packify.ops import contraction, convolution, norm
from packify.ops.rule import Rule
from packify.packing.builder import PackBuilder, PackedValue
from packify.widths.dims import Dim
from packify.widths.propagation import Axes, WidthPropagation


def with_method_rows(table: Mapping[Any, Rule]) -> dict[Any, Rule]:
    """A table of operators with rows for what the methods put into graphs; convs and norms with shared parameters stay in the batch."""
    found = {key: _row(rule) for key, rule in table.items()}
    for function, members in ((scale_channels, scale_members), (shift_channels, shift_members)):
        pack = functools.partial(_pack_on_channels, members)
        found[function] = Rule("methods", _on_channels, pack, None, "input, values, axis", None, frozenset())
    found[read_channels] = Rule("methods", _read_channels, None, None, "input, values, axis", None, frozenset())
    found[mix_members] = Rule("methods", None, _pack_mix, None, "input", None, frozenset())
    return found


def _on_channels(widths: WidthPropagation, input: Axes, values: Axes, axis: int) -> list[Dim]:
    widths.equate(values.dims[-1], input.dims[axis])
    return input.dims


def _read_channels(widths: WidthPropagation, input: Axes, values: Axes, axis: int) -> list[Dim]:
    """What a masked layer reads has a width of its own: as many channels as the mask keeps."""
    dims = list(input.dims)
    dims[axis] = values.dims[-1]
    return dims


def _row(rule: Rule) -> Rule:
    """A row whose operator stays in the batch where its parameters are shared."""
    shared: Any = _SHARED.get(rule.pack)
    return rule if shared is None else replace(rule, pack=shared)


def _pack_on_channels(members: Any, builder: PackBuilder, node: Any, input: PackedValue, values: PackedValue, axis: int) -> Any:
    """Factors of the members' own on what they share, or on what each of them has."""
    if not (input.packed or values.packed):
        return builder.call(node, None)
    made = builder.emit(members, builder.front(input), builder.front(builder.to(values, 0)), axis, input.ndim)
    return builder.back(made, node.meta["val"])


def _pack_conv(builder: PackBuilder, node: Any, input: Any, weight: Any, bias: Any, groups: Any, **_: Any) -> Any:
    """With a shared weight, members are samples; the first layer of a MIMO network reads them side by side."""
    if node.meta.get("side_by_side"):
        return _side_by_side(builder, node, input, weight, 1 if input.ndim == weight.ndim else 0, groups)
    own = weight.packed or (bias is not None and bias.packed)
    if own or not input.packed or input.ndim != weight.ndim:
        return convolution.pack_conv(builder, node, input, weight, bias, groups)
    return builder.call(node, 0, input=builder.to(input, 0))


def _pack_linear(builder: PackBuilder, node: Any, input: Any, weight: Any, bias: Any, **others: Any) -> Any:
    if node.meta.get("side_by_side"):
        return _side_by_side(builder, node, input, weight, input.ndim - 1, **others)
    return contraction.pack_linear(builder, node, input, weight, bias, **others)


def _side_by_side(builder: PackBuilder, node: Any, input: Any, weight: Any, axis: int, groups: Any, **others: Any) -> Any:
    """One layer that reads M inputs as if they were one of M times the channels; its bias is added behind it, once."""
    if groups != 1 or "transpose" in node.meta["op"] or not weight.packed:
        packed = contraction.pack_linear if node.meta["op"] == "linear" else convolution.pack_conv
        return packed(builder, node, builder.to(input, axis), weight, None, groups, **others)
    wide = builder.emit(side_by_side, builder.to(weight, 0), builder.members)
    return builder.call(node, None, input=builder.to(input, axis), weight=wide)


def _pack_mix(builder: PackBuilder, node: Any, input: PackedValue) -> Any:
    """The sum over members of what each has made; a layer that has read them side by side has summed already."""
    if not input.packed:
        return input
    return builder.result(builder.emit(sum_of_members, builder.front(input)), node.meta["val"], None)


def _pack_channels(builder: PackBuilder, node: Any, input: Any, **others: Any) -> Any:
    """Batch and instance norm with shared parameters and statistics."""
    given = [value for value in others.values() if isinstance(value, PackedValue)]
    shared = builder.is_shared(node) if node.op == "call_module" else not any(tensor.packed for tensor in given)
    if not shared:
        return norm.pack_channels(builder, node, input, **others)
    return builder.call(node, 0, input=builder.to(input, 0)) if input.packed else builder.call(node, None)


_SHARED: Mapping[Any, Any] = {convolution.pack_conv: _pack_conv, contraction.pack_linear: _pack_linear, norm.pack_channels: _pack_channels}
