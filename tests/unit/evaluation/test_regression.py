"""Metrics of predicted numbers against scikit-learn, torch's distributions and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor
from torch.distributions import Normal

from packify.core.errors import DataError
from packify.evaluation import RegressionMetrics, RegressionScores
from packify.evaluation.regression import LEVELS


def _data(samples: int, targets: int, spread: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Means, variances, and targets whose deviation is `spread` times the predicted one."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(samples, targets, generator=generator, dtype=torch.float64)
    variance = torch.rand(samples, targets, generator=generator, dtype=torch.float64) + 0.1
    noise = torch.randn(samples, targets, generator=generator, dtype=torch.float64)
    return mean, variance, mean + spread * variance.sqrt() * noise


def _scored(mean: Tensor, variance: Tensor | None, targets: Tensor) -> RegressionScores:
    metrics = RegressionMetrics()
    size = max(7, len(mean) // 10)
    for start in range(0, len(mean), size):
        part = slice(start, start + size)
        metrics.update(mean[part], None if variance is None else variance[part], targets[part])
    return metrics.compute()


@pytest.mark.parametrize(("samples", "targets"), [(1, 1), (50, 1), (300, 3)])
def test_by_hand(samples: int, targets: int) -> None:
    mean, variance, y = _data(samples, targets)
    found = _scored(mean, variance, y)
    assert found.samples == samples * targets
    assert found.rmse == pytest.approx(math.sqrt(sk.mean_squared_error(y, mean)))
    assert found.mae == pytest.approx(sk.mean_absolute_error(y, mean))
    normal = Normal(mean, variance.sqrt())
    assert found.nll == pytest.approx(float(-normal.log_prob(y).mean()))
    assert found.sharpness == pytest.approx(float(variance.sqrt().mean()))
    for level, one in zip(LEVELS, found.coverage, strict=True):
        low, high = normal.icdf(torch.tensor((1 - level) / 2).double()), normal.icdf(torch.tensor((1 + level) / 2).double())
        assert one.level == level
        assert one.coverage == pytest.approx(float(((y >= low) & (y <= high)).double().mean()))
    assert found.calibration_error == pytest.approx(np.mean([abs(one.level - one.coverage) for one in found.coverage]))
    order = variance.flatten().argsort()
    errors = (y - mean).flatten()[order].square()
    for rejected in (0, 25, 50):
        kept = len(order) * (100 - rejected) / 100
        if kept == int(kept) and samples > 1:
            assert found.rejection[rejected] == pytest.approx(math.sqrt(float(errors[: int(kept)].mean())))
    assert len(found.targets) == (targets if targets > 1 else 0)
    for number, one in enumerate(found.targets):
        assert one.rmse == pytest.approx(math.sqrt(sk.mean_squared_error(y[:, number], mean[:, number])))
        assert one.nll == pytest.approx(float(-normal.log_prob(y)[:, number].mean()))


def test_honest_and_overconfident_heads() -> None:
    honest, confident = _scored(*_data(20_000, 1)), _scored(*_data(20_000, 1, spread=2.0))
    assert honest.calibration_error < 0.01
    assert confident.calibration_error > 0.15
    assert all(one.coverage < one.level for one in confident.coverage)
    assert honest.nll < confident.nll


def test_without_a_variance() -> None:
    mean, _, y = _data(20, 2)
    found = _scored(mean, None, y)
    assert (found.nll, found.coverage, found.calibration_error, found.sharpness) == (None, (), None, None)
    assert found.rejection == pytest.approx([found.rmse] * 100)
    assert found.targets[0].nll is None


def test_large_offsets_and_half_precision() -> None:
    mean, variance, y = _data(200, 1)
    near = _scored(mean, variance, y)
    far = _scored(mean + 1e6, variance, y + 1e6)
    assert far.rmse == pytest.approx(near.rmse, rel=1e-6)
    assert far.nll == pytest.approx(near.nll, rel=1e-6)
    assert math.isfinite(_scored(mean.half(), variance.half(), y).nll)


def test_wrong_input() -> None:
    metrics = RegressionMetrics()
    with pytest.raises(DataError, match="no target"):
        metrics.compute()
    with pytest.raises(DataError, match=r"\(2, 1\), None, \(3, 1\)"):
        metrics.update(torch.zeros(2, 1), None, torch.zeros(3, 1))
    with pytest.raises(DataError, match="NaN"):
        metrics.update(torch.zeros(2, 1), None, torch.full((2, 1), torch.nan))
