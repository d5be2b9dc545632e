"""The arithmetic of packed layers against one ordinary layer per member."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from packify.nn.functional import affine, grouped_linear, packed_embedding, packed_linear

_M = 3


def _randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("lead", [(), (5,), (2, 5)])
def test_a_linear_layer_per_member(lead: tuple[int, ...], groups: int, bias: bool) -> None:
    x, weight, shift = _randn(_M, *lead, 6), _randn(_M * 4, 6 // groups), _randn(_M * 4) if bias else None
    found = packed_linear(x, weight, shift, _M, groups)
    assert found.shape == (_M, *lead, 4)
    for member in range(_M):
        own, own_shift = weight.chunk(_M)[member], None if shift is None else shift.chunk(_M)[member]
        torch.testing.assert_close(found[member], grouped_linear(x[member], own, own_shift, groups))


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_a_grouped_linear_is_block_diagonal(groups: int) -> None:
    x, weight, bias = _randn(4, 6), _randn(12, 6 // groups), _randn(12)
    whole = torch.block_diag(*weight.chunk(groups))
    torch.testing.assert_close(grouped_linear(x, weight, bias, groups), F.linear(x, whole, bias))


@pytest.mark.parametrize("padding_idx", [None, 0, 4, -1])
@pytest.mark.parametrize("packed", [True, False])
def test_a_table_per_member(packed: bool, padding_idx: int | None) -> None:
    indices = torch.randint(0, 5, (_M, 2, 4) if packed else (2, 4))
    weight = _randn(_M * 5, 3).requires_grad_()
    found = packed_embedding(indices, weight, _M, packed, padding_idx)
    expected = [F.embedding(indices[member] if packed else indices, table, padding_idx) for member, table in enumerate(weight.chunk(_M))]
    torch.testing.assert_close(found, torch.stack(expected))
    pull = _randn(*found.shape)
    torch.testing.assert_close(*(torch.autograd.grad((output * pull).sum(), weight)[0] for output in (found, torch.stack(expected))))


def test_scale_and_shift_per_member() -> None:
    x, weight, bias = _randn(_M, 2, 5, 4), _randn(_M, 4), _randn(_M, 4)
    torch.testing.assert_close(affine(x, weight, bias), x * weight.view(_M, 1, 1, 4) + bias.view(_M, 1, 1, 4))
    torch.testing.assert_close(affine(x, None, bias), x + bias.view(_M, 1, 1, 4))
    assert affine(x, None, None) is x
    table = _randn(_M, 5, 4)
    torch.testing.assert_close(affine(x, table, None), x * table.view(_M, 1, 5, 4))
