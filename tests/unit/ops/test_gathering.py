"""Reading the positions that a tensor names: no index of a member may reach another member's numbers."""

from __future__ import annotations

import pytest
import torch

from tests.unit.ops.calls import GATHERING, places, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, packed_call, single


@pytest.mark.parametrize("name", GATHERING)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*GATHERING[name])


@pytest.mark.parametrize("name", GATHERING)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*GATHERING[name])


def test_a_part_of_another_axis_is_pinned_and_read_member_by_member() -> None:
    call = (torch.gather, real(3, 4), 1, places(2, 4, below=4))
    assert check_widths(*call) == [2, 4]
    assert packed_call(call[0], (0, 0), *call[1:]).fallbacks
    # where one axis is read in part, the members stand on another
    assert not packed_call(torch.gather, (0, 0), real(3, 4, 5), 2, places(2, 4, 5, below=5)).fallbacks


def test_an_index_has_the_widths_of_what_it_reads() -> None:
    walk, _ = dims_of(single(torch.gather, real(3, 4, 5), 1, places(3, 2, 5, below=4)))
    data, index = walk.parameters.dims["t0"], walk.parameters.dims["t1"]
    assert data[0].root() is index[0].root()
    assert data[1].root().pin.why == "single positions of it are read"
