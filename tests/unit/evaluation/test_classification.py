"""Streaming metrics of class probabilities against scikit-learn and against loops over samples, exact and rounded."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor

from packify.core.errors import DataError, SpecError
from packify.evaluation import ClassificationMetrics


def _data(samples: int, classes: int, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, classes, generator=generator, dtype=torch.float64) * scale
    labels = torch.multinomial((logits * 0.7).softmax(1), 1, generator=generator)[:, 0]
    return logits.log_softmax(1), labels


def _scored(log_p: Tensor, labels: Tensor, batch: int = 7, **options: Any) -> Any:
    metrics = ClassificationMetrics(**options)
    for start in range(0, len(labels), batch):
        metrics.update(log_p[start : start + batch], labels[start : start + batch])
    return metrics.compute()


def _ece(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = [i for i, c in enumerate(confidence) if (c > b / bins or (b == 0 and c == 0)) and c <= (b + 1) / bins]
        if inside:
            total += len(inside) / len(confidence) * abs(confidence[inside].mean() - correct[inside].mean())
    return total


def _adaptive_ece(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    order = np.argsort(confidence)
    return sum(
        len(part) / len(order) * abs(confidence[part].mean() - correct[part].mean()) for part in np.array_split(order, bins) if len(part)
    )


@pytest.mark.parametrize(("samples", "classes"), [(1, 2), (3, 2), (17, 3), (400, 5)])
def test_classification_against_scikit_learn_and_by_hand(samples: int, classes: int) -> None:
    log_p, labels = _data(samples, classes)
    found = _scored(log_p, labels, top_k=2)
    p, y = log_p.exp().numpy(), labels.numpy()
    confidence, correct = p.max(1), (p.argmax(1) == y).astype(float)
    assert found.samples == samples
    assert found.accuracy == pytest.approx(sk.accuracy_score(y, p.argmax(1)), abs=1e-12)
    assert found.nll == pytest.approx(sk.log_loss(y, p / p.sum(1, keepdims=True), labels=list(range(classes))), abs=1e-9)
    assert found.brier == pytest.approx(np.mean(((p - np.eye(classes)[y]) ** 2).sum(1)), abs=1e-12)
    if classes > 2:
        top = sk.top_k_accuracy_score(y, p, k=2, labels=list(range(classes)))
        assert found.top_k_accuracy == pytest.approx(top, abs=1e-12)
    assert found.ece == pytest.approx(_ece(confidence, correct, 15), abs=1e-12)
    assert found.adaptive_ece == pytest.approx(_adaptive_ece(confidence, correct, 15), abs=1e-12)
    order = np.argsort(-confidence)
    risks = [(1 - correct[order[:i]]).mean() for i in range(1, samples + 1)]
    assert found.aurc == pytest.approx(np.mean(risks), abs=1e-9)
    kept = order[: samples - samples // 2]
    if samples % 2 == 0:
        assert found.rejection[50] == pytest.approx(correct[kept].mean(), abs=1e-12)
    assert found.rejection[0] == pytest.approx(found.accuracy)
    assert found.exact


def test_batches_do_not_matter() -> None:
    log_p, labels = _data(101, 4)
    whole, pieces = _scored(log_p, labels, batch=101), _scored(log_p, labels, batch=1)
    for name in ("accuracy", "nll", "ece", "adaptive_ece", "brier", "aurc"):
        assert getattr(whole, name) == pytest.approx(getattr(pieces, name), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bins", [5, 10, 15])
def test_confidences_on_edges_belong_to_the_bin_below(bins: int, dtype: torch.dtype) -> None:
    tried = 0
    for edge in range(1, bins + 1):
        confidence = edge / bins
        if confidence <= 0.5:
            continue
        log_p = torch.tensor([[confidence, 1 - confidence]], dtype=dtype).log()
        if float(log_p.exp()[0, 0]) != float(torch.tensor(confidence, dtype=dtype)):
            continue  # log and exp do not come back to the edge
        tried += 1
        found = _scored(log_p, torch.tensor([0]), num_bins=bins)
        assert [b.samples for b in found.reliability].index(1) == edge - 1
        assert found.reliability[edge - 1].upper == edge / bins
    assert tried >= 2


def test_perfect_confidence_is_in_the_last_bin_with_its_neighbours() -> None:
    log_p = torch.tensor([[0.0, float("-inf")], [math.log(0.99), math.log(0.01)]])
    found = _scored(log_p, torch.tensor([0, 1]))
    assert [b.samples for b in found.reliability] == [0] * 14 + [2]
    assert found.ece == pytest.approx(abs(1.99 / 2 - 0.5), abs=1e-6)
    assert found.reliability[-1].accuracy == 0.5
    wrong = _scored(log_p[:1], torch.tensor([1]))
    assert (wrong.nll, wrong.ece, wrong.brier, wrong.aurc) == (math.inf, 1.0, 2.0, 1.0)
    assert wrong.to_dict()["nll"] is None


def test_ties_count_in_random_order_in_expectation() -> None:
    confidence = torch.tensor([0.9, 0.7, 0.7, 0.7, 0.6, 0.6], dtype=torch.float64)
    correct = [1, 0, 1, 1, 0, 1]
    log_p = torch.stack((confidence, 1 - confidence), 1).log()
    labels = 1 - torch.tensor(correct)
    orders = [o for o in itertools.permutations(range(6)) if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(o))]
    risks = [np.mean([np.mean([1 - correct[i] for i in order[: n + 1]]) for n in range(6)]) for order in orders]
    assert len(risks) == math.factorial(3) * math.factorial(2)
    assert _scored(log_p, labels).aurc == pytest.approx(np.mean(risks), abs=1e-12)


def test_the_first_of_equal_classes_is_predicted() -> None:
    log_p = torch.full((3, 3), 1 / 3).log()
    found = _scored(log_p, torch.tensor([0, 1, 2]), top_k=2)
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.top_k_accuracy == pytest.approx(2 / 3)


def test_one_class_only_and_everything_right() -> None:
    log_p, _ = _data(50, 3)
    found = _scored(log_p, log_p.argmax(1))
    assert (found.accuracy, found.aurc, found.rejection) == (1.0, 0.0, (1.0,) * 100)
    found = _scored(log_p, torch.ones(50, dtype=torch.long))
    assert 0 <= found.accuracy <= 1


def test_rounded_confidences_are_close() -> None:
    log_p, labels = _data(20_000, 6)
    exact, rounded = _scored(log_p, labels, 500), _scored(log_p, labels, 500, max_scores=2000)
    assert not rounded.exact
    assert (rounded.ece, rounded.nll, rounded.accuracy) == (exact.ece, exact.nll, exact.accuracy)
    assert rounded.aurc == pytest.approx(exact.aurc, abs=1e-4)
    assert rounded.adaptive_ece == pytest.approx(exact.adaptive_ece, abs=2e-3)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (torch.tensor([0, 3]), "3 classes"),
        (torch.tensor([-1, 0]), "from -1"),
        (torch.tensor([0.0, 1.0]), "float32"),
        (torch.tensor([0]), "(1,)"),
    ],
)
def test_labels_that_do_not_fit(labels: Tensor, says: str) -> None:
    with pytest.raises(DataError) as caught:
        ClassificationMetrics().update(_data(2, 3)[0], labels)
    assert says in str(caught.value)


def test_nothing_nan_and_wrong_numbers() -> None:
    with pytest.raises(DataError, match="no labelled sample"):
        ClassificationMetrics().compute()
    with pytest.raises(DataError, match="NaN"):
        ClassificationMetrics().update(torch.full((1, 2), float("nan")), torch.tensor([0]))
    for wrong in ({"num_bins": 0}, {"top_k": 0}, {"max_scores": 1.5}):
        with pytest.raises(SpecError, match=next(iter(wrong))):
            ClassificationMetrics(**wrong)
