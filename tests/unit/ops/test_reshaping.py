"""Axes merged and split: products that stay products, members that stay outermost."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.fx import Graph

from packify.nn.members import merge_members, split_members
from packify.ops import reshaping
from packify.widths.propagation import Call
from tests.unit.ops.calls import RESHAPING, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, packed_call, single


@pytest.mark.parametrize("name", RESHAPING)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*RESHAPING[name])


@pytest.mark.parametrize("name", RESHAPING)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*RESHAPING[name])


def test_merged_axes_are_a_product_and_split_ones_its_factors() -> None:
    walk, (_, merged) = dims_of(single("reshape", real(2, 3, 4), (2, 12)))
    own = walk.parameters.dims["t0"]
    assert merged.factors() == [own[1].root(), own[2].root()]
    walk, (_, first, second) = dims_of(single("reshape", real(2, 12), (2, 3, 4)))
    assert walk.parameters.dims["t0"][1].factors() == [first.root(), second.root()]


def test_an_axis_has_the_size_of_the_tensor_that_it_is_reshaped_as() -> None:
    walk, dims = dims_of(single("reshape_as", real(2, 3, 4), real(2, 12)))
    own, other = walk.parameters.dims["t0"], walk.parameters.dims["t1"]
    assert other[1].root().factors() == [own[1].root(), own[2].root()]
    assert [dim.root() for dim in dims] == [dim.root() for dim in other]


@pytest.mark.slow
@given(st.data())
def test_members_stay_where_their_axis_starts(data: st.DataObject) -> None:
    before = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4)))
    axis = data.draw(st.integers(0, len(before) - 1))
    numel = torch.Size(before).numel()
    after = _shape(data, numel)
    found = reshaping.axis_after(before, after, axis)
    if found is None:
        return
    members = torch.stack([torch.arange(numel).view(before) + 1000 * member for member in range(3)])
    packed = merge_members(members, axis)
    sizes = [size * (3 if place == found else 1) for place, size in enumerate(after)]
    assert split_members(packed.reshape(sizes), found, 3).equal(members.reshape(3, *after))


def _shape(data: st.DataObject, numel: int) -> tuple[int, ...]:
    sizes = []
    while numel > 1:
        size = data.draw(st.sampled_from([factor for factor in range(1, numel + 1) if numel % factor == 0]))
        sizes.append(size)
        numel //= size
        if len(sizes) > 5:
            return (*sizes, numel)
    return tuple(sizes) or (1,)


def test_constants_become_the_members_and_what_is_computed_right_stays() -> None:
    assert reshaping.refit_sizes(Call({"shape": (2, 12)}, (2, 6), {}), (2, 12)) == {"shape": (2, 6)}
    assert reshaping.refit_sizes(Call({"shape": (2, -1)}, (2, 6), {}), (2, -1)) == {}
    assert reshaping.refit_sizes(Call({"shape": (2, 3, 4)}, (2, 6), {}), (2, 3, 4)) == {}  # of another rank: not the output's sizes
    node = Graph().placeholder("size")
    assert reshaping.refit_sizes(Call({"shape": (2, 6)}, (2, 6), {}), (2, node)) == {}
    assert reshaping.refit_unflatten(Call({"dim": -1, "sizes": (3, 8)}, (2, 3, 4), {}), (3, 8)) == {"sizes": (3, 4)}
    assert reshaping.refit_unflatten(Call({"dim": 0, "sizes": (3, 8)}, (3, 4, 2), {}), (3, 8)) == {"sizes": (3, 4)}


def test_reshapes_that_keep_the_members_axis_move_nothing() -> None:
    for layout, function, *args in (
        ((0,), "reshape", real(2, 3, 4), (2, 12)),
        ((1,), "reshape", real(2, 3, 4), (2, 12)),
        ((1,), "reshape", real(2, 12), (2, 3, 4)),
        ((0,), torch.flatten, real(2, 3, 4), 1),
        ((2,), torch.flatten, real(2, 3, 4), 0, 1),
        ((1,), torch.unsqueeze, real(2, 3), 0),
    ):
        builder = packed_call(function, layout, *args)
        assert not builder.relayouts + builder.fallbacks
        assert not any(node.target in (split_members, merge_members) for node in builder.graph.nodes)
