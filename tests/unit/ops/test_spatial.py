"""Operators over resolution: channels keep their width, the resolution is structure."""

from __future__ import annotations

import pytest
from torch.nn import functional as F

from packify.ops import spatial
from packify.ops.table import RULES
from tests.unit.ops.calls import SPATIAL, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, packed_call, single


@pytest.mark.parametrize("name", SPATIAL)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*SPATIAL[name])


@pytest.mark.parametrize("name", SPATIAL)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*SPATIAL[name])


def test_channels_keep_their_width_and_the_resolution_is_structure() -> None:
    walk, dims = dims_of(single(F.max_pool2d, real(2, 3, 4, 4), 2))
    own = walk.parameters.dims["t0"]
    assert [dim.root() for dim in dims[:2]] == [dim.root() for dim in own[:2]]
    assert all(dim.is_pinned() for dim in (*own[2:], *dims[2:]))


def test_a_sample_has_its_own_grid() -> None:
    walk, dims = dims_of(single(F.grid_sample, real(2, 3, 4, 4), real(2, 5, 5, 2), "bilinear", "zeros", False))
    assert walk.parameters.dims["t0"][0].root() is walk.parameters.dims["t1"][0].root()
    assert dims[1].root() is walk.parameters.dims["t0"][1].root()


@pytest.mark.parametrize("kind", spatial.POOLS)
def test_every_pool_has_a_row_for_each_rank(kind: str) -> None:
    names = spatial.pool_names(kind)
    assert len(names) == (6 if "max" in kind else 3)
    assert set(names) <= RULES.keys()


def test_members_on_batch_or_channels_are_not_moved() -> None:
    for axis in (0, 1):
        builder = packed_call(F.avg_pool2d, (axis,), real(2, 3, 4, 4), 2)
        assert not builder.relayouts + builder.fallbacks
