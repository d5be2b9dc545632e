"""What runs in networks whose members share weights, member by member against one network's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from packify.nn.scaling import (
    mix_members,
    read_channels,
    scale_channels,
    scale_members,
    shift_channels,
    shift_members,
    side_by_side,
    sum_of_members,
    take_channels,
)


@pytest.mark.parametrize(("one", "every"), [(scale_channels, scale_members), (shift_channels, shift_members)])
@pytest.mark.parametrize("axis", [-1, -2, -3])
@pytest.mark.parametrize("is_shared", [False, True])
def test_each_member_has_its_own_numbers(one: Any, every: Any, axis: int, is_shared: bool) -> None:
    shape = (2, 4, 5, 6)
    x, values = torch.randn(shape if is_shared else (3, *shape)), torch.randn(3, shape[axis])
    found = every(x, values, axis, len(shape))
    for member in range(3):
        torch.testing.assert_close(found[member], one(x if is_shared else x[member], values[member], axis))


def test_channels_are_counted_from_the_back() -> None:
    x = torch.ones(2, 3, 4)
    assert torch.equal(scale_channels(x, torch.tensor([1.0, 2.0, 3.0]), -2)[:, :, 0], torch.tensor([[1.0, 2.0, 3.0]] * 2))
    assert torch.equal(scale_channels(x, torch.arange(4.0)[None], -1)[0, 0], torch.arange(4.0))


def test_factors_do_not_make_activations_wide() -> None:
    half = torch.randn(2, 3).to(torch.bfloat16)
    assert scale_channels(half, torch.randn(3), -1).dtype == torch.bfloat16
    assert shift_members(half, torch.randn(4, 3), -1, 2).dtype == torch.bfloat16


def test_one_layer_reads_what_all_members_read() -> None:
    weight, x = torch.randn(3 * 5, 4).double(), torch.randn(3, 2, 4).double()
    together = x.transpose(0, 1).flatten(1) @ side_by_side(weight, 3).T
    alone = torch.stack([x[member] @ weight.chunk(3)[member].T for member in range(3)])
    torch.testing.assert_close(together, sum_of_members(alone))
    assert mix_members(x) is x


def test_channels_that_a_mask_keeps() -> None:
    x, mask = torch.randn(2, 4), torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert torch.equal(read_channels(x, mask, -1), x * mask)
    assert read_channels(x, torch.ones(2), -1).shape == (2, 2)
    assert torch.equal(take_channels(x, torch.tensor([0, 2]), -1), x[:, [0, 2]])
