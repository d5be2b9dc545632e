"""Reading and writing parts of tensors, by every kind of index."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from packify.nn.writes import setitem
from packify.ops import indexing
from packify.widths.dims import free
from packify.widths.propagation import Axes, Call
from tests.unit.ops.calls import INDEXING, mask, places, real
from tests.unit.ops.single import check_packing, check_widths, dims_of, single


@pytest.mark.parametrize("name", INDEXING)
def test_packed_calls_are_the_members_calls(name: str) -> None:
    check_packing(*INDEXING[name])


@pytest.mark.parametrize("name", INDEXING)
def test_any_sizes_that_the_dims_allow_fit(name: str) -> None:
    check_widths(*INDEXING[name])


@pytest.mark.parametrize(
    ("index", "full"),
    [
        (1, [1, slice(None), slice(None)]),
        ((Ellipsis, 1), [slice(None), slice(None), 1]),
        ((None, 1), [None, 1, slice(None), slice(None)]),
        ((0, Ellipsis, None), [0, slice(None), slice(None), None]),
        (([0, 1],), [[0, 1], slice(None), slice(None)]),
        ((range(2), (1, 0)), [[0, 1], [1, 0], slice(None)]),
        (Ellipsis, [slice(None)] * 3),
    ],
)
def test_an_index_written_out_reads_the_same(index: Any, full: list[Any]) -> None:
    found = indexing.full_index(index, 3)
    assert found == full
    tensor = real(2, 3, 4)
    plain = tuple(list(item) if isinstance(item, (tuple, range)) else item for item in index) if isinstance(index, tuple) else index
    assert tensor[tuple(found)].equal(tensor[plain])


def test_slices_take_the_parts_that_were_joined() -> None:
    walk, (_, piece) = dims_of(single("__getitem__", real(3, 6), (slice(None), slice(2, 5))))
    whole = walk.parameters.dims["t0"][1].root()
    assert [part.root().size for part in whole.terms()] == [2, 3, 1]
    assert whole.terms()[1] is piece.root()
    before, length, after = walk.cuts[walk.node.prev if walk.node.op == "output" else walk.node][1]
    assert [dim.root().size for dim in (before, length, after)] == [2, 3, 1]


@pytest.mark.parametrize("cut", [(0, 4, 2), (2, 4, 0), (1, 4, 1)])
def test_a_slice_is_refitted_to_the_parts_of_the_member(cut: tuple[int, int, int]) -> None:
    tensor = real(2, sum(cut))
    call = Call({"input": tensor}, (2, cut[1]), {1: cut})
    (items,) = indexing.refit_getitem(call, (slice(None), slice(9, 99))).values()
    assert tensor[items].equal(tensor[:, cut[0] : cut[0] + cut[1]])
    assert indexing.refit_narrow(call) == {"start": cut[0], "length": cut[1]}
    assert indexing.refit_getitem(Call({"input": tensor}, (), {}), 0) == {}


def test_a_mask_and_single_positions_pin_what_they_read() -> None:
    walk, _ = dims_of(single(torch.relu, real(2)))
    masked = Axes([free(3), free(4)], torch.empty(3, 4))
    assert indexing.region(walk, masked, Axes([free(3), free(4)], mask(3, 4))) is None
    assert all(dim.is_pinned() for dim in masked.dims)
    walk, _ = dims_of(single("__getitem__", real(3, 4), (slice(None), places(2, below=4))))
    first, second = walk.parameters.dims["t0"]
    assert (first.is_pinned(), second.root().pin.why) == (False, "single positions of it are read")


_WRITES = {
    "a slice": ((slice(None), slice(1, 3)), (2, 2)),
    "one position": ((slice(None), 1), (2,)),
    "a row": ((0,), (4,)),
    "a number": ((slice(None), 1), ()),
    "a list": ((slice(None), [2, 0]), (2, 2)),
    "broadcast": ((slice(None), slice(1, 3)), (1, 2)),
}


@pytest.mark.parametrize("name", _WRITES)
def test_assignments_are_the_members_assignments(name: str) -> None:
    index, shape = _WRITES[name]
    check_packing(setitem, real(2, 4), index, real(*shape) + 5)
