from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from packify.evaluation import (
    DiversityMetrics,
)
from packify.evaluation.diversity import Diversity


def test_diversity_over_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    log_p = (torch.randn(4, 30, 5, generator=generator, dtype=torch.float64) * 3).log_softmax(-1)
    metrics = DiversityMetrics()
    for part in log_p.split(7, 1):
        metrics.update(part)
    found = metrics.compute()
    p = log_p.exp()
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    kl = np.mean([float((p[i] * (log_p[i] - log_p[j])).sum(-1).mean()) for i, j in pairs])
    differ = np.mean([float((p[i].argmax(-1) != p[j].argmax(-1)).double().mean()) for i, j in pairs])
    assert found.kl == pytest.approx(kl, abs=1e-12)
    assert found.disagreement == pytest.approx(differ, abs=1e-12)
    one = DiversityMetrics()
    one.update(log_p[:1])
    assert (one.compute().kl, one.compute().disagreement) == (0.0, 0.0)
    masked = DiversityMetrics()
    masked.update(torch.tensor([[[0.0, float("-inf")]], [[0.0, float("-inf")]]]))
    assert masked.compute().kl == 0.0


def test_a_member_that_excludes_what_another_holds_possible_is_infinitely_far() -> None:
    metrics = DiversityMetrics()
    metrics.update(torch.tensor([[[0.5, 0.5]], [[1.0, 0.0]]]).log())
    assert metrics.compute() == Diversity(0.0, math.inf)


def test_nothing_added() -> None:
    assert DiversityMetrics().compute() == Diversity(0.0, 0.0)
