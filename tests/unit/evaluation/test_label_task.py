"""Evaluating networks of several labels: packed, single, Deep Ensembles, wrong labels."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.core.errors import DataError, SpecError
from packify.evaluation import LabelEvaluation, compare, evaluate, uncertainty

K, M = 4, 3


@pytest.fixture(scope="module")
def packed() -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, K))
    return packify.pack(model, torch.randn(8, 6), alpha=3, num_estimators=M, average="sigmoid").eval()


def _batches(samples: int = 40, seed: int = 0, scale: float = 1.0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(samples, 6, generator=generator)
    return list(zip(x.split(16), (torch.rand(samples, K, generator=generator) < 0.4).float().split(16), strict=True))


def test_the_kind_follows_the_average(packed: Any) -> None:
    found = evaluate(packed, _batches(), ood=_batches(20, 1, 5.0), shift=_batches(30, 2))
    assert isinstance(found, LabelEvaluation)
    x, y = (torch.cat(parts) for parts in zip(*_batches(), strict=True))
    with torch.no_grad():
        p = packed.members(x).sigmoid().mean(0)
        told, far = uncertainty(packed, x), uncertainty(packed, torch.cat([x for x, _ in _batches(20, 1, 5.0)]))
    assert found.accuracy == pytest.approx(float(((p > 0.5) == y.bool()).float().mean()))
    assert found.nll == pytest.approx(float(nn.functional.binary_cross_entropy(p, y)), rel=1e-5)
    assert found.disagreement == pytest.approx(float(told.disagreement.mean()), abs=1e-6)
    assert found.shift is not None
    assert found.shift.samples == 30
    from sklearn.metrics import roc_auc_score

    scores = torch.cat((told.entropy.mean(1), far.entropy.mean(1)))
    assert found.ood is not None
    assert found.ood.entropy.auroc == pytest.approx(roc_auc_score([0] * 40 + [1] * 20, scores), abs=1e-6)
    assert len(found.members) == M
    json.dumps(found.to_dict(), allow_nan=False)
    assert "mAP" in str(found)
    assert "4 labels" in str(found)


def test_a_deep_ensemble_of_the_members_is_equal(packed: Any) -> None:
    members = [packed.extract(m) for m in range(M)]
    found = compare({"packed": packed, "deep": members, "single": members[0]}, _batches(), ood=_batches(20, 1))
    for name in ("accuracy", "nll", "ece", "brier", "mean_average_precision", "exact_match", "disagreement", "kl"):
        assert getattr(found["packed"], name) == pytest.approx(getattr(found["deep"], name), abs=2e-5), name
    assert found["single"].nll == pytest.approx(found["packed"].members[0].nll, abs=1e-5)
    assert found["single"].disagreement == 0
    assert found.rows()[0]["ood_entropy_auroc"] == found["packed"].ood.entropy.auroc
    assert "packed: accuracy" in str(found)


def test_one_label_maps_and_forms_of_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, generator=generator), torch.tensor([0, 1, 1, 0, 1, 0])
    wanted = evaluate(nn.Identity(), [(logits[:, None], labels[:, None])], kind="multilabel")
    for outputs, truth in ((logits, labels), (logits[:, None], labels), (logits[:, None], labels.bool()), (logits, labels.float())):
        assert evaluate(nn.Identity(), [(outputs, truth)], kind="multilabel") == wanted
    given = evaluate(nn.Sigmoid(), [(logits[:, None], labels)], kind="multilabel", outputs="probabilities")
    assert given.nll == pytest.approx(wanted.nll, rel=1e-5)
    maps, truth = torch.randn(2, K, 3, 5, generator=generator), torch.randint(2, (2, K, 3, 5), generator=generator)
    flat = [each.movedim(1, -1).reshape(-1, K) for each in (maps, truth)]
    assert evaluate(nn.Identity(), [(maps, truth)], kind="multilabel").nll == pytest.approx(
        evaluate(nn.Identity(), [tuple(flat)], kind="multilabel").nll
    )


def test_labels_that_do_not_count() -> None:
    logits, labels = torch.randn(5, K), torch.randint(2, (5, K))
    unknown = labels.clone()
    unknown[:, 1] = -1
    unknown[2] = -1
    found = evaluate(nn.Identity(), [(logits, unknown)], kind="multilabel", ignore_index=-1)
    assert [one.label for one in found.labels] == [0, 2, 3]
    assert found.samples == 4
    rows = [0, 1, 3, 4]
    kept = [each[rows][:, [0, 2, 3]] for each in (logits, labels)]
    assert found.nll == pytest.approx(evaluate(nn.Identity(), [tuple(kept)], kind="multilabel").nll)


@pytest.mark.parametrize(
    ("batch", "options", "says"),
    [
        ((torch.zeros(3, K), torch.zeros(3, K + 1)), {}, "(3, 4) per member and labels of shape (3, 5)"),
        ((torch.zeros(3, K), torch.zeros(3, dtype=torch.long)), {}, 'kind="classification"'),
        ((torch.zeros(3, K), torch.full((3, K), 0.3)), {}, "the number 0.3"),
        ((torch.zeros(3, K), torch.full((3, K), -1)), {}, "ignore_index"),
        ((torch.zeros(3, K), torch.full((3, K), -1)), {"ignore_index": -1}, "no labelled sample"),
        ((torch.full((3, K), torch.nan), torch.zeros(3, K)), {}, "NaN"),
        ((torch.zeros(3, K), torch.zeros(3, K)), {"top_k": 2}, "top_k=2"),
        ((torch.zeros(3, K), torch.zeros(3, K)), {"temperature": 2.0}, "temperature=2.0"),
        ((torch.zeros(3, K), torch.zeros(3, K)), {"class_axis": 0}, "class_axis"),
        ((torch.zeros(3, K), torch.zeros(3, K)), {"ood": []}, "out-of-distribution data"),
    ],
)
def test_mistakes_are_told(batch: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises((DataError, SpecError)) as caught:
        evaluate(nn.Identity(), [batch], kind="multilabel", **options)
    assert says in str(caught.value)
    assert caught.value.found
    assert caught.value.why
    assert caught.value.fix
