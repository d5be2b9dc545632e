"""Tables that code computed from a width are as it would compute them at a member's width."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from packify.nn.tables import fitted


def inverse_frequencies(d: int, base: float = 10000.0) -> Tensor:
    return 1.0 / base ** (torch.arange(0, d, 2).float() / d)


def angles(d: int) -> Tensor:
    return torch.outer(torch.arange(30).float(), inverse_frequencies(d))


def original_sinusoids(d: int) -> Tensor:
    table = torch.zeros(30, d)
    table[:, 0::2], table[:, 1::2] = angles(d).sin(), angles(d).cos()
    return table


@pytest.mark.parametrize(
    ("table", "wide", "narrow", "axis"),
    [
        (inverse_frequencies, 64, 32, 0),
        (lambda d: inverse_frequencies(d, 500.0), 64, 40, 0),
        (lambda d: torch.exp(torch.linspace(0, -9.21034, d)), 32, 16, 0),
        (lambda d: 2.0 ** torch.linspace(0, 7, d), 16, 8, 0),
        (lambda d: torch.linspace(-1, 1, d), 32, 12, 0),
        (lambda d: torch.linspace(0, 255, d)[None, :, None], 32, 24, 1),
        (lambda d: (torch.arange(d) + 0.5) / d, 32, 16, 0),
        (lambda d: torch.arange(d) / d, 32, 16, 0),
        (lambda d: torch.arange(d).float(), 32, 16, 0),
        (lambda d: torch.full((d, 3), 0.5), 32, 16, 0),
        (angles, 64, 32, 1),
        (lambda d: torch.cat([angles(d), angles(d)], -1), 64, 32, 1),
        (lambda d: angles(d).repeat_interleave(2, -1).cos(), 64, 32, 1),
        (lambda d: torch.cat([angles(d).sin(), angles(d).cos()], -1), 64, 48, 1),
        (lambda d: torch.cat([angles(d), angles(d)], -1).cos()[None, None], 64, 32, 3),
        (original_sinusoids, 64, 32, 1),
        (lambda d: torch.polar(torch.ones(30, d // 2), angles(d)), 64, 32, 1),
        (inverse_frequencies, 32, 64, 0),
    ],
)
def test_tables_follow_their_formula(table: Callable[[int], Tensor], wide: int, narrow: int, axis: int) -> None:
    reference, wanted = table(wide), table(narrow)
    made, how = fitted(reference, tuple(wanted.shape))
    assert how != "the leading part"
    assert made.dtype == reference.dtype
    assert torch.allclose(made, wanted, atol=2e-3, rtol=1e-3), float((made - wanted).abs().max())


@pytest.mark.parametrize(
    "table", [torch.randn(30, 64), torch.rand(64), torch.eye(64), torch.tensor([1.0, 2.0, 5.0, 7.0]), torch.arange(64)]
)
def test_of_any_other_table_the_leading_part_is_taken(table: Tensor) -> None:
    shape = tuple(size // 2 for size in table.shape)
    made, how = fitted(table, shape)
    assert how == "the leading part"
    assert torch.equal(made, table[tuple(slice(size) for size in shape)])


def test_nothing_happens_to_what_keeps_its_size() -> None:
    table = torch.randn(3, 4)
    assert fitted(table, (3, 4)) == (table, "as it is")
