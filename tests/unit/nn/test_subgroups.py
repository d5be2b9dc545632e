"""Rows part by part and subgroup by subgroup."""

from __future__ import annotations

import pytest
import torch

from packify.nn.functional import grouped_linear, packed_linear
from packify.nn.subgroups import by_group, by_part


def _order(groups: int, gamma: int, parts: tuple[int, ...]) -> list[int]:
    """Where each row of a kernel, subgroup by subgroup, stands among rows that are part by part; by counting."""
    rows = []
    for group in range(groups):
        for subgroup in range(gamma):
            start = group * sum(parts)
            for part in parts:
                size = part // gamma
                rows += range(start + subgroup * size, start + (subgroup + 1) * size)
                start += part
    return rows


@pytest.mark.parametrize("parts", [(4, 4, 4), (2, 6), (8,), (), (4, 2, 2)])
@pytest.mark.parametrize("groups", [1, 3])
def test_the_order_of_rows(parts: tuple[int, ...], groups: int) -> None:
    rows = groups * (sum(parts) or 8)
    x = torch.randn(5, rows, 3)
    found = by_group(x, 1, groups, 2, parts)
    order = _order(groups, 2, parts) if len(parts) > 1 else list(range(rows))
    assert torch.equal(found, x[:, order])
    assert torch.equal(by_part(found, 1, groups, 2, parts), x)
    assert torch.equal(by_part(by_group(x.transpose(1, 2), -1, groups, 2, parts), -1, groups, 2, parts), x.transpose(1, 2))


@pytest.mark.parametrize("parts", [(6, 6, 6), (4, 8), (2, 4, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_of_parts_is_a_layer_for_each_part(parts: tuple[int, ...], bias: bool) -> None:
    members, gamma = 3, 2
    x = torch.randn(members, 4, 10, dtype=torch.float64)
    weights = [torch.randn(members, part, 10 // gamma, dtype=torch.float64) for part in parts]
    shifts = [torch.randn(members, part, dtype=torch.float64) for part in parts]
    alone = [
        packed_linear(x, weight.flatten(0, 1), shift.flatten() if bias else None, members, gamma)
        for weight, shift in zip(weights, shifts, strict=True)
    ]
    fused, shift = torch.cat(weights, 1), torch.cat(shifts, 1)
    found = packed_linear(x, fused.flatten(0, 1), shift.flatten() if bias else None, members, gamma, parts)
    torch.testing.assert_close(found, torch.cat(alone, -1))
    for member in range(members):
        one = grouped_linear(x[member], fused[member], shift[member] if bias else None, gamma, parts)
        torch.testing.assert_close(one, found[member])
