"""Widths by example: what comes out at other sizes says how sizes travel, and what does not come out is pinned."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.unit.ops.calls import PROBED, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, single


@pytest.mark.parametrize("name", PROBED)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*PROBED[name])


@pytest.mark.parametrize("name", PROBED)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*PROBED[name])


def test_sizes_travel_as_the_operator_shows() -> None:
    assert check_widths(torch.cdist, real(2, 3, 4), real(2, 5, 4)) == [None, None, None]
    assert check_widths(torch.cross, real(2, 3), real(2, 3), 1) == [None, 3]
    walk, (batch, rows, columns) = dims_of(single(torch.cdist, real(2, 3, 4), real(2, 5, 4)))
    left, right = walk.parameters.dims["t0"], walk.parameters.dims["t1"]
    assert (batch.root(), rows.root(), columns.root()) == (left[0].root(), left[1].root(), right[1].root())
    assert left[0].root() is right[0].root()
    assert left[2].root() is right[2].root()
    assert not left[2].is_pinned()


def test_multiples_of_a_size_are_products() -> None:
    _, (rows, columns) = dims_of(single(torch.kron, real(2, 3), real(4, 5)))
    assert (rows.root().size, columns.root().size) == (8, 15)


def test_an_output_as_long_as_the_shorter_of_two_axes_ties_them() -> None:
    walk, dims = dims_of(single(torch.diagonal, real(4, 4, 3)))
    own = walk.parameters.dims["t0"]
    assert own[0].root() is own[1].root() is dims[1].root()
    assert dims[0].root() is own[2].root()


def test_what_takes_no_other_size_or_cannot_be_tried_is_pinned() -> None:
    walk, _ = dims_of(single(torch.cross, real(2, 3), real(2, 3), 1))
    assert walk.parameters.dims["t0"][1].root().pin.why == "cross takes no other size"
    call = single(torch.trapezoid, real(3, 4))
    call.node.target = refused
    walk, _ = dims_of(call)
    assert {dim.root().pin.why for dim in walk.parameters.dims["t0"]} == {"trapezoid cannot be tried out at other sizes"}


def refused(*_: Any) -> None:
    raise RuntimeError("not on this device")
