from __future__ import annotations

import pytest
import torch

import packify


def _batch(rho: float, repetitions: int = 2, members: int = 3) -> torch.Tensor:
    x = torch.arange(10.0)
    inputs, targets = packify.mimo_batch(x[:, None], x, members, rho, repetitions, generator=torch.Generator().manual_seed(0))
    assert torch.equal(inputs[:, 0], targets)
    rows: torch.Tensor = targets.unflatten(0, (members, -1))
    return rows


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.5, 1.0])
def test_every_member_sees_every_sample_as_often_and_a_share_of_rows_is_the_same_for_all(rho: float) -> None:
    rows = _batch(rho)
    for row in rows:
        assert torch.equal(row.sort().values, torch.arange(10.0).repeat_interleave(2))
    same = (rows == rows[0]).all(0)
    assert int(same.sum()) >= round(20 * rho)
    assert bool(same[20 - round(20 * rho) :].all())
    assert rho == 1 or not bool(same.all())


def test_targets_may_be_nested() -> None:
    x = torch.arange(4.0)
    inputs, targets = packify.mimo_batch({"a": x, "b": 2 * x}, (x, "name", 0.5), 2, 0.0, 1)
    assert torch.equal(2 * inputs["a"], inputs["b"])
    assert torch.equal(targets[0], inputs["a"])
    assert targets[1:] == ("name", 0.5)


@pytest.mark.parametrize("options", [{"rho": 2}, {"rho": float("nan")}, {"batch_repetitions": 0}, {"num_estimators": 0}])
def test_numbers_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(packify.SpecError):
        packify.mimo_batch(torch.ones(4), torch.ones(4), **{"num_estimators": 2, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(("x", "y"), [(torch.ones(4), torch.ones(3)), (torch.ones(0), torch.ones(0)), ("x", 3)])
def test_rows_that_do_not_fit_are_refused(x: object, y: object) -> None:
    with pytest.raises(packify.DataError, match="mimo_batch"):
        packify.mimo_batch(x, y, 2)
