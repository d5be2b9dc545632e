"""Writing to positions given by an index: members on an axis that is not written to."""

from __future__ import annotations

import pytest
import torch

from tests.unit.ops.calls import SCATTERING, places, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, packed_call, single


@pytest.mark.parametrize("name", SCATTERING)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*SCATTERING[name])


@pytest.mark.parametrize("name", SCATTERING)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*SCATTERING[name])


def test_the_axis_that_is_written_to_is_pinned_and_the_others_meet() -> None:
    walk, _ = dims_of(single(torch.index_add, real(3, 4), 1, places(2, below=4), real(3, 2)))
    target, index, source = (walk.parameters.dims[f"t{number}"] for number in range(3))
    assert target[1].root().pin.why == "single positions of it are written"
    assert target[0].root() is source[0].root()
    assert not target[0].is_pinned()
    assert source[1].root() is index[0].root()
    walk, _ = dims_of(single(torch.scatter_add, real(3, 4), 0, places(2, 3, below=3), real(2, 3)))
    assert walk.parameters.dims["t0"][1].root().pin.why == "a part of it is written"


def test_members_are_spared_the_axis_that_is_written_to() -> None:
    index, source = places(2, below=4), real(3, 2)
    assert not packed_call(torch.index_add, (1, None, 1), real(3, 4), 1, index, source).fallbacks
    assert packed_call(torch.index_add, (0, None, 0), real(4), 0, index, real(2)).fallbacks
    assert packed_call(torch.index_add, (0, 0, 0), real(3, 4), 1, index, source).fallbacks  # each member its own positions
