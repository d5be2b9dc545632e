"""Tensors made from sizes: as long in the member as what they meet."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from packify.ops import creation
from packify.packing.builder import PackBuilder
from packify.widths.propagation import Call
from tests.unit.ops.calls import CREATION, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, single


@pytest.mark.parametrize("name", CREATION)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*CREATION[name])


@pytest.mark.parametrize("name", CREATION)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*CREATION[name])


@pytest.mark.parametrize(("start", "end", "step"), [(0, 5, 1), (2, 11, 3), (10, 0, -2), (0.0, 1.0, 0.25), (1.5, 4.0, 0.5)])
@pytest.mark.parametrize("length", [1, 2, 7])
def test_an_arange_has_as_many_numbers_as_it_must(start: float, end: float, step: float, length: int) -> None:
    call = Call({"start": start, "end": end, "step": step}, (length,), {})
    found = {"start": start, "end": end, "step": step} | creation.refit_arange(call)
    made, whole = torch.arange(**found), torch.arange(start, end, step)
    assert len(made) == length
    same = min(length, len(whole))
    torch.testing.assert_close(made[:same], whole[:same])
    assert (found["end"] == end) == (len(whole) == length)


def test_squares_and_lines_are_as_long_as_the_member_needs() -> None:
    assert creation.refit_linspace(Call({"steps": 8}, (5,), {})) == {"steps": 5}
    for values, shape, changes in (
        ({"n": 8}, (5, 5), {"n": 5}),
        ({"n": 8}, (8, 8), {}),
        ({"n": 8, "m": None}, (5, 8), {"n": 5, "m": 8}),
        ({"n": 8, "m": 6}, (5, 5), {"n": 5, "m": 5}),
        ({"n": 8, "m": 6}, (8, 6), {}),
        ({"n": 8}, (5,), {"n": 5}),  # randperm
    ):
        assert creation.refit_square(Call(values, shape, {})) == changes
        known = {name: value for name, value in (values | changes).items() if value is not None}
        assert (torch.eye(**known) if len(shape) == 2 else torch.randperm(**known)).shape == shape


def test_what_is_drawn_is_drawn_for_each_member() -> None:
    call = single(torch.rand, (3,))
    call.node.meta["random"] = True
    builder = PackBuilder(4, nn.Module(), current=call.node)
    made = creation.pack_created(builder, call.node)
    assert made.packed
    assert len(builder.fallbacks) == 1


def test_axes_of_a_grid_by_both_conventions() -> None:
    check_packing(torch.meshgrid, real(3), real(4), indexing="ij")
    for indexing, order in (("ij", [0, 1, 2]), ("xy", [1, 0, 2])):
        walk, dims = dims_of(single(torch.meshgrid, real(3), real(4), real(5), indexing=indexing))
        own = [walk.parameters.dims[f"t{place}"][0] for place in order]
        assert [dim.root() for dim in dims[0]] == [dim.root() for dim in own]
        assert len(dims) == 3
