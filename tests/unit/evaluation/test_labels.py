"""Metrics of several labels per sample against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor

from packify.core.errors import DataError
from packify.evaluation import LabelMetrics
from packify.evaluation.classes import label_log_probabilities


def _data(samples: int, labels: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, labels, generator=generator, dtype=torch.float64) * 2
    truth = (torch.rand(samples, labels, generator=generator) < (logits * 0.6).sigmoid()).long()
    return logits, truth


def _scored(logits: Tensor, truth: Tensor, counted: Tensor | None = None, **options: int) -> object:
    metrics = LabelMetrics(**options)
    size = max(7, len(truth) // 10)
    for start in range(0, len(truth), size):
        part = slice(start, start + size)
        metrics.update(label_log_probabilities(logits[None, part])[0][0], truth[part], None if counted is None else counted[part])
    return metrics.compute()


def _ece(p: np.ndarray, y: np.ndarray, bins: int) -> float:
    inside = [(p > b / bins if b else p >= 0) & (p <= (b + 1) / bins) for b in range(bins)]
    return float(sum(each.sum() / len(p) * abs(p[each].mean() - y[each].mean()) for each in inside if each.any()))


@pytest.mark.parametrize(("samples", "labels", "bins"), [(1, 1, 15), (40, 1, 10), (200, 6, 15)])
def test_against_scikit_learn(samples: int, labels: int, bins: int) -> None:
    logits, truth = _data(samples, labels)
    p, y = logits.sigmoid().numpy(), truth.numpy()
    found = _scored(logits, truth, num_bins=bins)
    assert found.samples == samples
    assert found.accuracy == pytest.approx((y == (p > 0.5)).mean())
    assert found.exact_match == pytest.approx((y == (p > 0.5)).all(1).mean())
    assert found.nll == pytest.approx(np.mean([sk.log_loss(y[:, k], p[:, k], labels=[0, 1]) for k in range(labels)]))
    assert found.brier == pytest.approx(((p - y) ** 2).mean())
    assert found.ece == pytest.approx(np.mean([_ece(p[:, k], y[:, k], bins) for k in range(labels)]), abs=1e-9)
    if samples > 1:
        assert found.mean_average_precision == pytest.approx(sk.average_precision_score(y, p, average="macro"))
        for k, one in enumerate(found.labels):
            assert one.label == k
            assert one.auroc == pytest.approx(sk.roc_auc_score(y[:, k], p[:, k]))
            assert one.average_precision == pytest.approx(sk.average_precision_score(y[:, k], p[:, k]))
            assert one.positives == y[:, k].sum()
    assert sum(each.samples for each in found.reliability) == samples * labels


def test_labels_that_do_not_count_change_nothing() -> None:
    logits, truth = _data(60, 4)
    counted = torch.rand(60, 4, generator=torch.Generator().manual_seed(3)) < 0.7
    counted[0] = False
    found = _scored(logits, truth, counted)
    changed = _scored(torch.where(counted, logits, 100.0), torch.where(counted, truth, 1 - truth), counted)
    assert found == changed
    assert found.samples == int(counted.any(1).sum())
    for k, one in enumerate(found.labels):
        own = counted[:, k]
        assert one.samples == int(own.sum())
        assert one.average_precision == pytest.approx(sk.average_precision_score(truth[own, k], logits[own, k]))
        assert one.accuracy == pytest.approx(float(((logits[own, k] > 0) == truth[own, k].bool()).double().mean()))


def test_labels_of_one_kind_alone() -> None:
    logits, truth = _data(20, 3)
    truth[:, 0], truth[:, 1] = 0, 1
    found = _scored(logits, truth)
    assert [(one.average_precision is None, one.auroc is None) for one in found.labels] == [(True, True), (False, True), (False, False)]
    assert found.labels[1].average_precision == 1.0
    assert found.mean_average_precision == pytest.approx((1 + found.labels[2].average_precision) / 2)
    assert _scored(logits, torch.zeros_like(truth)).mean_average_precision is None


def test_confident_labels_keep_their_order() -> None:
    """In float32 their probabilities are all 1."""
    logits = torch.tensor([[40.0], [50.0], [60.0], [70.0]])
    found = _scored(logits, torch.tensor([[0], [1], [0], [1]]))
    assert found.labels[0].auroc == 0.75
    assert found.exact


def test_many_scores_are_rounded_and_said_to_be() -> None:
    logits, truth = _data(5000, 2)
    exact, rounded = _scored(logits, truth), _scored(logits, truth, max_scores=1024)
    assert exact.exact
    assert not rounded.exact
    assert rounded.mean_average_precision == pytest.approx(exact.mean_average_precision, abs=5e-3)
    assert rounded.nll == exact.nll


def test_nothing_is_no_number() -> None:
    with pytest.raises(DataError, match="no labelled sample"):
        LabelMetrics().compute()
