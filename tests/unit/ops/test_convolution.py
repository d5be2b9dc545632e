"""Convolutions: groups that follow a width and groups that do not, and members as groups."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from packify.ops import convolution
from packify.widths.dims import Product, Quotient, fixed, free
from tests.unit.ops.calls import CONVOLUTIONS, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, packed_call, single


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*CONVOLUTIONS[name])


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*CONVOLUTIONS[name])


@pytest.mark.parametrize("name", ["grouped", "depthwise", "transposed, grouped"])
def test_groups_that_scale_keep_the_channels_of_one(name: str) -> None:
    check_widths(*CONVOLUTIONS[name], scaled_groups=frozenset((3, 6)))


@pytest.mark.parametrize(
    ("groups", "read", "written", "follow"),
    [(1, 1, 1, False), (8, 1, 1, True), (8, 1, 4, True), (8, 2, 1, True), (4, 8, 1, False), (4, 4, 4, False)],
)
def test_the_groups_of_a_depthwise_conv_are_its_width(groups: int, read: int, written: int, follow: bool) -> None:
    assert convolution.groups_follow_width(groups, read, written) is follow


def test_kernels_and_channels_of_one_group_are_pinned() -> None:
    walk, (_, channels, _) = dims_of(single(F.conv1d, real(2, 6, 5), real(6, 1, 3), None, 1, 0, 1, 6))
    weight = walk.parameters.dims["t1"]
    assert weight[0].root() is channels.root() is walk.parameters.dims["t0"][1].root()
    assert weight[2].root().pin.why == "a kernel size"
    walk, _ = dims_of(single(F.conv1d, real(2, 6, 5), real(9, 2, 3), None, 1, 0, 1, 3))
    assert walk.parameters.dims["t0"][1].root().size == 6
    assert not walk.parameters.dims["t1"][1].is_pinned()


def test_a_shared_input_needs_no_groups_and_a_packed_one_has_one_for_each_member() -> None:
    tensors = real(2, 4, 5), real(6, 4, 3), real(6)
    shared, packed = (packed_call(F.conv1d, (axis, 0, 0), *tensors) for axis in (None, 1))
    assert (shared.ungrouped, shared.grouped) == ({"t1"}, set())
    assert (packed.ungrouped, packed.grouped) == (set(), {"t1"})
    convs = [next(node for node in builder.graph.nodes if node.op == "call_function") for builder in (shared, packed)]
    assert [conv.args[6] if len(conv.args) > 6 else 1 for conv in convs] == [1, 3]
    assert not packed.relayouts + packed.fallbacks


def test_one_group_of_merged_groups_and_channels_is_the_channels() -> None:
    groups, channels = fixed(4), free(6)
    walk, _ = dims_of(single(torch.relu, real(2)))
    assert convolution.one_group(Product([groups, channels]), 4, walk) is channels
    share = convolution.one_group(free(24), 4, walk)
    assert (type(share), share.size) == (Quotient, 6)
