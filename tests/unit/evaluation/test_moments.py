"""Means and variances of members' outputs."""

from __future__ import annotations

import pytest
import torch

from packify.core.errors import DataError
from packify.evaluation.moments import member_moments


def test_numbers_halves_and_pairs() -> None:
    mean, variance = torch.randn(3, 5, 2), torch.rand(3, 5, 2)
    both = torch.cat((mean, variance), -1)
    assert torch.equal(member_moments(both, False, "positive")[0], both)
    assert member_moments(both, False, "positive")[1] is None
    for values, halved in (
        (both, True),
        ((mean, variance), True),
        ((mean, variance), False),
        ({"mean": mean, "variance": variance}, False),
    ):
        found = member_moments(values, halved, "positive")
        assert torch.equal(found[0], mean)
        torch.testing.assert_close(found[1], variance.clamp(min=1e-6))
    maps = torch.rand(3, 5, 4, 2, 2)
    assert torch.equal(member_moments(maps, True, "positive")[0], maps[:, :, :2])
    assert member_moments(both.half(), False, "positive")[0].dtype == torch.float32
    assert member_moments(both.double(), False, "positive")[0].dtype == torch.float64


@pytest.mark.parametrize(
    "values", [torch.zeros(3), torch.zeros(3, 2).long(), torch.full((3, 2, 2), torch.nan), torch.full((3, 2, 2), torch.inf)]
)
def test_what_gives_no_numbers(values: torch.Tensor) -> None:
    with pytest.raises(DataError):
        member_moments(values, False, "positive")
