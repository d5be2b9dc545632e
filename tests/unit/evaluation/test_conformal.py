"""Conformal sets against their definition and their promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from packify.core.errors import DataError, SpecError
from packify.evaluation import (
    ConformalSets,
)
from tests.unit.evaluation.calibrated import overconfident


@pytest.mark.parametrize("method", ["threshold", "aps"])
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.99])
def test_coverage_holds_over_many_calibration_sets(method: Any, coverage: float) -> None:
    covered, sizes = [], []
    for seed in range(60):
        logits, labels = overconfident(400, 8, 3.0, seed)
        sets = ConformalSets(method, coverage).fit(logits[:100], labels[:100])(logits[100:])
        covered.append(float(sets.gather(1, labels[100:, None]).double().mean()))
        sizes.append(float(sets.double().sum(1).mean()))
    # the mean over calibration sets is at least the coverage; its own deviation is about 0.04 / sqrt(60)
    assert np.mean(covered) >= coverage - 0.015
    if method == "threshold":
        assert np.mean(covered) <= coverage + 1 / 101 + 0.015
    assert np.mean(sizes) < 8


def test_scores_and_quantile_are_their_definitions() -> None:
    logits, labels = overconfident(37, 5)
    p = logits.softmax(1).numpy()
    own = p[np.arange(37), labels.numpy()]
    before = np.array([row[row > value].sum() for row, value in zip(p, own, strict=True)])
    for method, scores in (("threshold", 1 - own), ("aps", before)):
        sets = ConformalSets(method, 0.8).fit(logits, labels)  # type: ignore[arg-type]
        assert sets.quantile == pytest.approx(np.sort(scores)[math.ceil(38 * 0.8) - 1], abs=1e-12)
        assert float(sets(logits).gather(1, labels[:, None]).double().mean()) >= math.ceil(38 * 0.8) / 38 - 1 / 37
    assert ConformalSets("aps", 0.01).fit(logits, labels)(logits).sum(1).min() >= 1  # never empty
    assert not ConformalSets("threshold", 0.01).fit(logits, labels)(logits).any(1).all()


def test_the_coverage_is_taken_as_it_is_written() -> None:
    logits, labels = overconfident(9, 5)
    worst = max(1 - logits.softmax(1).gather(1, labels[:, None]).flatten().numpy())
    assert ConformalSets(coverage=0.9).fit(logits, labels).quantile == pytest.approx(worst)  # (9 + 1) * 0.9 is 9
    few = ConformalSets(coverage=0.91).fit(logits, labels)
    assert few.quantile == math.inf
    assert few(logits).all()


def test_rounded_scores_keep_the_coverage() -> None:
    logits, labels = overconfident(20_000, 8)
    exact = ConformalSets().fit(logits, labels)
    rounded = ConformalSets().fit(logits, labels, max_scores=500)
    assert exact.quantile <= rounded.quantile <= exact.quantile * 1.05
    assert float(rounded(logits).gather(1, labels[:, None]).double().mean()) >= 0.9


def test_half_precision_and_temperature() -> None:
    logits, labels = overconfident(300)
    sets = ConformalSets("aps", 0.9, temperature=2.5).fit(logits, labels)
    torch.testing.assert_close(sets(logits), ConformalSets("aps", 0.9).fit(logits / 2.5, labels)(logits / 2.5))
    assert sets(logits.half()).dtype == torch.bool


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "x"},
        {"more": 1},
        {"coverage": True},
        {"temperature": float("nan")},
        *({"quantile": wrong} for wrong in ("0.5", 10**400, [0.5])),
        *({"samples": wrong} for wrong in (None, float("inf"), -1)),
    ],
)
def test_foreign_states_of_sets(change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="from_dict"):
        ConformalSets.from_dict({**ConformalSets().to_dict(), **change})
    with pytest.raises(SpecError, match="coverage"):
        ConformalSets.from_dict({**ConformalSets().to_dict(), "coverage": 1.5})
    with pytest.raises(SpecError, match="method"):
        ConformalSets.from_dict({**ConformalSets().to_dict(), "method": "raps"})
