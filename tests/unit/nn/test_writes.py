"""Writes as values: what a tensor is after it was written to, while the tensor stays what it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx

from packify.nn.members import merge_members
from packify.nn.writes import OutOfPlace, WriteThrough, copied, setitem, setitem_members, store, with_data

MASK = torch.tensor([[True, False, True, False]] * 3)
INDICES = [
    (slice(None), 0),
    (Ellipsis, slice(1, 3)),
    1,
    (0, [1, 0]),
    torch.tensor([[True, False, True, False]] * 3),
    (slice(None), None, 2),
]


@pytest.mark.parametrize("index", INDICES, ids=lambda index: "mask" if isinstance(index, torch.Tensor) else str(index))
def test_an_assignment_as_a_value(index: Any) -> None:
    x = torch.arange(12.0).view(3, 4)
    wanted = x.clone()
    wanted[index] = -1.0
    assert setitem(x, index, -1.0).equal(wanted)
    assert x.equal(torch.arange(12.0).view(3, 4))
    assert setitem(x, index, -1.0, reuse=True) is x
    assert x.equal(wanted)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("reuse", [False, True])
def test_an_assignment_to_each_members_share(axis: int, reuse: bool) -> None:
    members = torch.randn(3, 4, 6)
    value = torch.randn(3, 4)
    packed = merge_members(members, axis)
    before = packed.clone()
    found = setitem_members(packed, (slice(None), slice(None), 2), value, axis, 3, reuse)
    wanted = members.clone()
    wanted[:, :, 2] = value
    assert found.equal(merge_members(wanted, axis))
    assert (found is packed) is reuse
    assert reuse or packed.equal(before)


def test_copies_take_the_shape_and_dtype_of_what_they_are_written_to() -> None:
    x = torch.zeros(2, 3, dtype=torch.float16)
    found = copied(x, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert (found.dtype, found.tolist()) == (torch.float16, [[1.0, 2.0, 3.0]] * 2)
    assert not x.any()


def test_data_is_exchanged_under_the_history() -> None:
    x = torch.ones(2, requires_grad=True)
    found = with_data(x * 3, torch.tensor([5.0, 7.0]))
    assert found.tolist() == [5.0, 7.0]
    (grad,) = torch.autograd.grad(found.sum(), x)
    assert grad.tolist() == [3.0, 3.0]


def test_what_a_buffer_holds_is_written_without_history() -> None:
    buffer, value = torch.zeros(2), torch.ones(2, requires_grad=True)
    store(buffer, value * 2)
    assert buffer.tolist() == [2.0, 2.0]
    assert not buffer.requires_grad
    graph = fx.Graph()
    graph.call_function(store, (graph.placeholder("target"), graph.placeholder("value")))
    graph.output(())
    graph.eliminate_dead_code()
    assert any(node.target is store for node in graph.nodes)  # nothing reads it, and it stays


def test_an_operator_that_exists_in_place_only_writes_to_a_copy() -> None:
    x, out = torch.tensor([3.0, 1.0]), torch.zeros(2)
    assert OutOfPlace(Tensor.fill_diagonal_)(torch.zeros(2, 2), 5.0).tolist() == [[5.0, 0.0], [0.0, 5.0]]

    def second(a: Tensor, b: Tensor) -> None:
        b.add_(a)

    found = OutOfPlace(second, position=1)
    assert found(x, out).tolist() == [3.0, 1.0]
    assert out.tolist() == [0.0, 0.0]
    assert found.__name__ == "second"


def test_a_write_through_a_view() -> None:
    base = torch.zeros(3, 3)
    assert WriteThrough(torch.diagonal)(base, torch.tensor([1.0, 2.0, 3.0])).equal(torch.diag(torch.tensor([1.0, 2.0, 3.0])))
    assert WriteThrough(torch.chunk, element=1)(torch.zeros(4), torch.ones(2), 2).tolist() == [0.0, 0.0, 1.0, 1.0]
    assert WriteThrough(torch.diagonal)(base, torch.ones(2), offset=1)[0].tolist() == [0.0, 1.0, 0.0]
    assert not base.any()
