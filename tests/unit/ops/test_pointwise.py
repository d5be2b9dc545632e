"""Operators that treat every element alike, broadcast over members."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import Graph

from packify.nn.members import FRONT, repeat_members
from packify.ops import pointwise
from packify.ops.table import RULES
from packify.packing.builder import PackBuilder, PackedValue
from tests.unit.ops.calls import POINTWISE, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, packed_call, single


@pytest.mark.parametrize("name", POINTWISE)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*POINTWISE[name])


@pytest.mark.parametrize("name", POINTWISE)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*POINTWISE[name])


def _values(*layouts: tuple[int | None, tuple[int, ...]]) -> list[PackedValue]:
    node = Graph().placeholder("x")
    return [PackedValue(node, axis, torch.empty(shape, device="meta")) for axis, shape in layouts]


@pytest.mark.parametrize(
    ("operands", "shape", "axis"),
    [
        ([(None, (2, 3)), (None, (3,))], (2, 3), None),
        ([(0, (2, 3)), (0, (2, 3))], (2, 3), 0),
        ([(0, (2, 3)), (0, (3,))], (2, 3), FRONT),  # of the vector the members are on the last axis of the output
        ([(1, (2, 3)), (0, (3,))], (2, 3), 1),
        ([(None, (2, 3)), (0, (3,))], (2, 3), 1),
        ([(0, (2, 1)), (0, (3,))], (2, 3), FRONT),
        ([(FRONT, (2, 3)), (1, (2, 3))], (2, 3), FRONT),
        ([(0, (1, 3)), (None, (2, 3))], (2, 3), FRONT),  # one row for all, and members cannot be on an axis of one that is repeated
        ([(FRONT, ()), (None, (2, 3))], (2, 3), FRONT),
    ],
)
def test_the_axis_that_all_operands_can_carry_members_on(operands: Any, shape: tuple[int, ...], axis: int | None) -> None:
    assert pointwise.common_axis(_values(*operands), torch.empty(shape)) == axis


def test_operands_of_one_layout_are_not_moved() -> None:
    builder = packed_call(torch.add, (1, 0), real(2, 3), real(3))
    assert not builder.relayouts + builder.fallbacks
    assert len([node for node in builder.graph.nodes if node.op != "placeholder"]) == 1


def test_a_shared_operand_is_repeated_only_where_it_varies() -> None:
    repeats = [
        len([node for node in packed_call(torch.add, (0, None), real(2, 3), other).graph.nodes if node.target is repeat_members])
        for other in (real(3), real(1, 3), real(2, 3))
    ]
    assert repeats == [0, 0, 1]


def test_a_shared_scalar_once_per_member() -> None:
    assert pointwise.spread_front(torch.tensor(2.0), 3).tolist() == [2.0, 2.0, 2.0]


def test_chance_is_drawn_for_each_member_even_of_a_shared_tensor() -> None:
    for tensor in (real(4, 3), real()):
        call = single(torch.rand_like, tensor)
        call.node.meta["random"] = True
        (node,) = call.tensors
        builder = PackBuilder(3, nn.Module(), current=call.node, signature=RULES["rand_like"].signature)
        builder.env[node] = PackedValue(builder.graph.placeholder("x"), None, node.meta["val"])
        made = pointwise.pack(builder, call.node)
        assert made.packed
        assert made.shape == tensor.shape


def test_a_slope_for_each_channel_has_its_width() -> None:
    walk, dims = dims_of(single(torch.prelu, real(2, 3, 4), real(3)))
    assert dims[1].root() is walk.parameters.dims["t1"][0].root()
    walk, dims = dims_of(single(torch.prelu, real(2, 3, 4), real(1)))
    assert not dims[1].is_pinned()
