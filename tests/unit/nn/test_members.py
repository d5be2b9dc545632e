"""Moving members between axes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from packify.nn.members import FRONT, Method, PerMember, cat_members, member_tensors, merge_members, relayout, repeat_members, split_members


@pytest.mark.parametrize("axis", [0, 1, 2, FRONT])
def test_fold_and_unfold_are_inverse_and_member_major(axis: int) -> None:
    members = torch.randn(3, 4, 5, 6)
    folded = merge_members(members, axis)
    assert torch.equal(split_members(folded, axis, 3), members)
    if axis != FRONT:
        assert folded.dim() == 3
        for member, share in enumerate(folded.chunk(3, axis)):
            assert torch.equal(share, members[member])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_unfolding_is_a_view(axis: int) -> None:
    folded = torch.randn(6, 6, 6)
    assert split_members(folded, axis, 3).data_ptr() == folded.data_ptr()


@pytest.mark.parametrize(("source", "target"), [(0, 1), (1, 0), (2, 0), (1, 2), (FRONT, 1), (0, FRONT)])
def test_relayout(source: int, target: int) -> None:
    members = torch.randn(3, 4, 5, 6)
    assert torch.equal(relayout(merge_members(members, source), source, target, 3), merge_members(members, target))


def test_shared_tensors_are_spread() -> None:
    shared = torch.randn(2, 3)
    assert torch.equal(repeat_members(shared, 1, 2), torch.cat([shared, shared], 1))


def test_joining_member_by_member() -> None:
    a, b = torch.randn(3, 2, 4), torch.randn(3, 2, 6)
    joined = cat_members([merge_members(a, 1), merge_members(b, 1)], 1, 3)
    assert torch.equal(joined, merge_members(torch.cat([a, b], 2), 1))


def test_per_member_functions_and_methods() -> None:
    a, shared = torch.randn(3, 2, 4), torch.randn(2, 4)
    run = PerMember(torch.add, 3, (True, False))
    assert torch.equal(run(a, shared), a + shared)
    assert torch.equal(PerMember(Method("softmax"), 3, (True,))(a, -1), a.softmax(-1))
    values, indices = PerMember(torch.sort, 3, (True,))(a, dim=-1)
    assert torch.equal(values, a.sort(-1).values)
    assert indices.shape == (3, 2, 4)


def test_per_member_modules() -> None:
    module = nn.Linear(4, 6)
    views = member_tensors(module, 1, 2)
    assert views["weight"].shape == (3, 4)
    assert views["weight"].data_ptr() == module.weight[3:].data_ptr()
