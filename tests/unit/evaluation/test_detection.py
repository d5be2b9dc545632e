"""Detection of out-of-distribution samples against scikit-learn, exact and rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor

from packify.core.errors import DataError
from packify.evaluation import (
    DetectionMetrics,
)


def _detected(inner: Tensor, outer: Tensor, batch: int = 13, **options: Any) -> Any:
    metrics = DetectionMetrics(**options)
    for ood, scores in ((False, inner), (True, outer)):
        for part in scores.split(batch):
            metrics.update(part, ood)
    return metrics.compute()


def _fpr95(inner: np.ndarray, outer: np.ndarray) -> float:
    """The smallest share of flagged in-distribution samples over all thresholds that catch 95 % of the others."""
    thresholds = np.concatenate((inner, outer))
    return min(float((inner >= t).mean()) for t in thresholds if (outer >= t).sum() * 100 >= 95 * len(outer))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("inside", "outside"), [(1, 1), (1, 30), (40, 20), (200, 300)])
def test_detection_against_scikit_learn(inside: int, outside: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(inside)
    inner = torch.randn(inside, generator=generator, dtype=torch.float64)
    outer = torch.randn(outside, generator=generator, dtype=torch.float64) + 0.8
    if ties:
        inner, outer = (inner * 2).round(), (outer * 2).round()
    found = _detected(inner, outer)
    truth, scores = np.r_[np.zeros(inside), np.ones(outside)], torch.cat((inner, outer)).numpy()
    assert found.auroc == pytest.approx(sk.roc_auc_score(truth, scores), abs=1e-12)
    assert found.aupr == pytest.approx(sk.average_precision_score(truth, scores), abs=1e-12)
    assert found.fpr95 == pytest.approx(_fpr95(inner.numpy(), outer.numpy()), abs=1e-12)
    fpr, tpr, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
    assert found.fpr95 == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1e-12)
    assert (found.in_samples, found.ood_samples, found.exact) == (inside, outside, True)
    for side in (found.histogram.in_distribution, found.histogram.out_of_distribution):
        assert sum(side) == pytest.approx(1)


def test_twenty_samples_are_caught_at_nineteen() -> None:
    outer = torch.arange(20.0)
    assert _detected(torch.tensor([0.5]), outer).fpr95 == 0.0
    assert _detected(torch.tensor([1.5]), outer).fpr95 == 1.0


def test_scores_without_information_and_infinite_ones() -> None:
    found = _detected(torch.zeros(3), -torch.zeros(6))
    assert (found.auroc, found.aupr, found.fpr95) == (0.5, pytest.approx(6 / 9), 1.0)
    found = _detected(torch.tensor([float("-inf"), 0.0]), torch.tensor([float("inf"), 1.0]))
    assert (found.auroc, found.aupr, found.fpr95) == (1.0, 1.0, 0.0)


def test_rounded_scores_are_close_and_memory_is_bounded() -> None:
    generator = torch.Generator().manual_seed(0)
    inner, outer = torch.rand(60_000, generator=generator) ** 3, torch.rand(30_000, generator=generator)
    exact, rounded = _detected(inner, outer, 1000), _detected(inner, outer, 1000, max_scores=1000)
    assert exact.exact
    assert not rounded.exact
    for name in ("auroc", "aupr", "fpr95"):
        assert getattr(rounded, name) == pytest.approx(getattr(exact, name), abs=5e-3)
    assert rounded.auroc == pytest.approx(exact.auroc, abs=1e-4)


def test_one_kind_only_is_an_error() -> None:
    for ood in (False, True):
        metrics = DetectionMetrics()
        metrics.update(torch.rand(5), ood)
        with pytest.raises(DataError, match="one kind alone") as caught:
            metrics.compute()
        assert "5" in caught.value.found
    with pytest.raises(DataError, match="NaN"):
        DetectionMetrics().update(torch.tensor([float("nan")]), True)
