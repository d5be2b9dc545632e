"""Operators along some axes: what is left keeps its width, and no member is summed into another."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from packify.nn.members import merge_members, split_members
from packify.ops import reduce
from tests.unit.ops.calls import REDUCTIONS, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, packed_call, single


@pytest.mark.parametrize("name", REDUCTIONS)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*REDUCTIONS[name])


@pytest.mark.parametrize("name", REDUCTIONS)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*REDUCTIONS[name])


@pytest.mark.parametrize(("dim", "axes"), [(None, [0, 1, 2]), ((), [0, 1, 2]), (-1, [2]), ((0, -1), [0, 2]), ([1], [1])])
def test_the_axes_that_are_named(dim: Any, axes: list[int]) -> None:
    assert reduce.axes_of(3, dim) == axes
    # what torch reduces by that name
    assert torch.empty(2, 3, 4).sum(dim).shape == tuple(size for axis, size in enumerate((2, 3, 4)) if axis not in axes)


def test_the_axes_that_are_left_are_those_of_the_input() -> None:
    walk, (first, last) = dims_of(single(torch.sum, real(2, 3, 4), 1))
    own = walk.parameters.dims["t0"]
    assert (first.root(), last.root()) == (own[0].root(), own[2].root())
    assert not own[1].is_pinned()
    assert check_widths(torch.mean, real(2, 3, 4), (0, -1), True) == [1, None, 1]
    assert check_widths(torch.topk, real(2, 5), 3) == [[None, 3], [None, 3]]


def test_what_leaves_the_members_axis_alone_runs_as_it_is() -> None:
    for function, *args in (
        (torch.sum, real(2, 3), 1),
        (torch.softmax, real(2, 3), 1),
        (torch.sort, real(2, 3), 1),
        (torch.tril, real(2, 4, 4)),
    ):
        builder = packed_call(function, (0,), *args)
        assert not builder.relayouts + builder.fallbacks
        assert not any(node.target in (split_members, merge_members) for node in builder.graph.nodes)


def test_only_what_takes_all_elements_at_once_runs_once_per_member() -> None:
    assert packed_call(torch.argmax, (0,), real(2, 3)).fallbacks
    assert not packed_call(torch.sum, (0,), real(2, 3)).fallbacks
