"""evaluate and compare: against metrics computed at once from all outputs, for every kind of network, loader and mistake."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import packify
from packify.core.errors import DataError, SpecError
from packify.evaluation import ClassificationMetrics, Evaluation, compare, evaluate, uncertainty

K, M = 5, 3


@pytest.fixture(scope="module")
def packed() -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Linear(30, K))
    return packify.pack(model, torch.randn(8, 6), alpha=3, num_estimators=M, average="probs").eval()


def _set(samples: int = 50, seed: int = 0, shift: float = 0.0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(torch.randn(samples, 6, generator=generator) + shift, torch.randint(K, (samples,), generator=generator))


def _loader(*args: Any, **options: Any) -> DataLoader[Any]:
    return DataLoader(_set(*args, **options), batch_size=16)


def test_everything_is_what_it_is_on_all_samples_at_once(packed: Any) -> None:
    found = evaluate(packed, _loader(), ood=_loader(30, 1, 2.0), shift=_loader(40, 2, 0.5), top_k=2)
    (x, y), (far, _), (shifted, labels) = _set().tensors, _set(30, 1, 2.0).tensors, _set(40, 2, 0.5).tensors
    with torch.no_grad():
        inside, outside = uncertainty(packed, x), uncertainty(packed, far)
        members = packed.members(x).softmax(-1)
    mean = members.mean(0)
    assert found.num_estimators == M
    assert found.samples == 50
    assert found.accuracy == pytest.approx(float((mean.argmax(1) == y).float().mean()))
    assert found.nll == pytest.approx(sk.log_loss(y, mean.double() / mean.double().sum(1, keepdim=True), labels=range(K)), abs=1e-5)
    assert found.disagreement == pytest.approx(float(inside.disagreement.mean()), abs=1e-6)
    truth = np.r_[np.zeros(50), np.ones(30)]
    for name, of in (
        ("max_softmax", lambda u: -u.confidence),
        ("entropy", lambda u: u.entropy),
        ("mutual_information", lambda u: u.mutual_information),
        ("max_logit", lambda u: -u.max_logit),
    ):
        scores = torch.cat((of(inside), of(outside))).numpy()
        detection = getattr(found.ood, name)
        assert detection.auroc == pytest.approx(sk.roc_auc_score(truth, scores), abs=2e-3), name
        assert detection.aupr == pytest.approx(sk.average_precision_score(truth, scores), abs=2e-3), name
    assert found.shift is not None
    assert found.shift.samples == 40
    with torch.no_grad():
        assert found.shift.accuracy == pytest.approx(float((packed(shifted).argmax(1) == labels).float().mean()))
    assert len(found.members) == M
    for member, own in enumerate(found.members):
        alone = evaluate(packed.extract(member), _loader(), ood=_loader(30, 1, 2.0), top_k=2)
        assert own.nll == pytest.approx(alone.nll, abs=1e-5)
        assert own.accuracy == alone.accuracy
        assert alone.ood is not None
        assert own.ood is not None
        assert own.ood.entropy.auroc == pytest.approx(alone.ood.entropy.auroc, abs=2e-3)
        assert alone.ood.mutual_information.auroc == 0.5
        assert (alone.num_estimators, alone.members, alone.disagreement, alone.kl) == (1, (), 0.0, 0.0)


def test_a_deep_ensemble_and_a_packed_network_of_the_same_members_are_equal(packed: Any) -> None:
    members = [packed.extract(m) for m in range(M)]
    found = compare({"packed": packed, "deep": members, "single": members[0]}, _loader(), ood=_loader(20, 1, 2.0))
    assert list(found.evaluations) == ["packed", "deep", "single"]
    for name in ("accuracy", "nll", "ece", "adaptive_ece", "brier", "aurc", "disagreement", "kl"):
        assert getattr(found["packed"], name) == pytest.approx(getattr(found["deep"], name), abs=2e-5), name
    assert found["single"].num_estimators == 1
    rows = found.rows()
    assert [row["name"] for row in rows] == ["packed", "deep", "single"]
    assert rows[0]["ood_entropy_auroc"] == found["packed"].ood.entropy.auroc  # type: ignore[union-attr]
    assert "packed: accuracy" in str(found)


def test_results_are_frozen_and_json(packed: Any) -> None:
    found = evaluate(packed, _loader(), ood=_loader(20, 1), shift=_loader(20, 2))
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["accuracy"] == found.accuracy
    assert document["shift"]["nll"] == pytest.approx(found.shift.nll)  # type: ignore[union-attr]
    assert document["ood"]["entropy"]["auroc"] == found.ood.entropy.auroc  # type: ignore[union-attr]
    assert "15 equal bins" in document["conventions"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.accuracy = 1.0  # type: ignore[misc]
    json.dumps(compare({"a": packed}, _loader()).to_dict(), allow_nan=False)
    assert "OOD by mutual_information" in str(found)


def test_modes_gradients_and_statistics_are_left_alone(packed: Any) -> None:
    packed.train()
    list(packed.modules())[-1].eval()
    before = {name: module.training for name, module in packed.named_modules()}
    buffers = {name: buffer.clone() for name, buffer in packed.named_buffers()}
    evaluate(packed, _loader())
    with pytest.raises(DataError):
        evaluate(packed, [])
    assert {name: module.training for name, module in packed.named_modules()} == before
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in packed.named_buffers())
    assert all(parameter.grad is None for parameter in packed.parameters())
    assert torch.is_grad_enabled()
    packed.eval()


def test_progress_counts_batches(packed: Any) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(packed, _loader(), ood=_loader(17, 1), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(step, 6) for step in range(1, 7)]

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(_set(5))

    seen.clear()
    evaluate(packed, DataLoader(Stream(), batch_size=2), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 0), (2, 0), (3, 0)]


def test_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 4, 3, 5, generator=generator), torch.randint(4, (6, 3, 5), generator=generator)
    labels[0, 0, 0] = labels[3, 2, 1] = 255
    flat, kept = logits.movedim(1, -1).reshape(-1, 4), labels.flatten() != 255
    metrics = ClassificationMetrics()
    metrics.update(flat[kept].log_softmax(-1), labels.flatten()[kept])
    wanted = metrics.compute()
    for at_once in (2**23, 40):
        monkeypatch.setattr("packify.evaluation.batches._AT_ONCE", at_once)
        found = evaluate([nn.Identity(), nn.Identity()], [(logits, labels)], ignore_index=255, ood=[(logits, labels)])
        assert found.samples == 88
        for name in ("accuracy", "nll", "ece", "adaptive_ece", "brier", "aurc"):
            assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=1e-6)
        assert found.ood is not None
        assert found.ood.entropy.ood_samples == 88
    with pytest.raises(DataError, match="255"):
        evaluate(nn.Identity(), [(logits, labels)])


def test_tokens_have_their_classes_last_or_where_said() -> None:
    logits, labels = torch.randn(2, 6, 4), torch.randint(4, (2, 6))
    wanted = evaluate(nn.Identity(), [(logits.flatten(0, 1), labels.flatten())]).nll
    assert evaluate(nn.Identity(), [(logits, labels)]).nll == pytest.approx(wanted)
    assert evaluate(nn.Identity(), [(logits.movedim(-1, 1), labels)], class_axis=1).nll == pytest.approx(wanted)


def test_temperature_is_of_the_ensemble_only(packed: Any) -> None:
    plain, warm = evaluate(packed, _loader()), evaluate(packed, _loader(), temperature=2.0)
    x, y = _set().tensors
    with torch.no_grad():
        assert warm.nll == pytest.approx(float(nn.functional.cross_entropy(packed(x) / 2, y)), abs=1e-5)
    assert warm.accuracy == plain.accuracy
    assert warm.members[0].nll == plain.members[0].nll
    both = compare({"a": packed, "b": packed}, _loader(), temperature={"b": 2.0})
    assert (both["a"].nll, both["b"].nll) == (plain.nll, warm.nll)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(SpecError, match="temperature"):
            evaluate(packed, _loader(), temperature=wrong)


def test_probabilities() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    wanted = evaluate(nn.Identity(), [(logits, labels)])
    with pytest.raises(DataError, match='outputs="probabilities"'):
        evaluate(nn.Softmax(-1), [(logits, labels)])
    assert evaluate(nn.Softmax(-1), [(logits, labels)], outputs="probabilities").nll == pytest.approx(wanted.nll)
    assert evaluate(nn.LogSoftmax(-1), [(logits, labels)]).nll == pytest.approx(wanted.nll)


class _Constant(nn.Module):
    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Any) -> Any:
        return self.outputs


_LOGITS, _LABELS = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
_NAN = _LOGITS.clone()
_NAN[2, 1] = float("nan")
MISTAKES: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "empty": (nn.Identity(), [], {}, "no batch"),
    "read before": (nn.Identity(), iter(()), {}, "no batch"),
    "empty ood": (nn.Identity(), [(_LOGITS, _LABELS)], {"ood": []}, "out-of-distribution data"),
    "empty shift": (nn.Identity(), [(_LOGITS, _LABELS)], {"shift": []}, "shifted data"),
    "no labels": (nn.Identity(), [_LOGITS], {}, "without labels"),
    "labels outside": (nn.Identity(), [(_LOGITS, _LABELS + 1)], {}, "3 classes"),
    "shifted labels outside": (nn.Identity(), [(_LOGITS, _LABELS)], {"shift": [(_LOGITS, _LABELS + 1)]}, "shifted data, batch 0"),
    "soft labels": (nn.Identity(), [(_LOGITS, _LOGITS.softmax(1))], {}, "labels of shape (4, 3)"),
    "float labels": (nn.Identity(), [(_LOGITS, _LABELS.float())], {}, "float32"),
    "too few labels": (nn.Identity(), [(_LOGITS, _LABELS[:3])], {}, "(4, 3) per member, 3 classes, and labels of shape (3,)"),
    "all ignored": (nn.Identity(), [(_LOGITS, torch.full((4,), 255))], {"ignore_index": 255}, "no labelled sample"),
    "nan": (nn.Identity(), [(_LOGITS, _LABELS), (_NAN, _LABELS)], {}, "batch 1: members' outputs"),
    "nan in ood": (nn.Identity(), [(_LOGITS, _LABELS)], {"ood": [_NAN]}, "at sample 2"),
    "one logit": (nn.Identity(), [(_LOGITS[:, :1], _LABELS)], {}, "one class"),
    "no batch axis": (_Constant(torch.tensor(1.0)), [(_LOGITS, _LABELS)], {}, "members first"),
    "several outputs": (_Constant((_LOGITS, _LOGITS)), [(_LOGITS, _LABELS)], {}, "output=0"),
    "no tensor": (_Constant(3), [(_LOGITS, _LABELS)], {}, "found: a int"),
    "no network": ("resnet50", [(_LOGITS, _LABELS)], {}, "a str"),
    "no networks": ([], [(_LOGITS, _LABELS)], {}, "a list"),
    "different classes": ([nn.Identity(), _Constant(torch.zeros(4, 2))], [(_LOGITS, _LABELS)], {}, "(4, 2), (4, 3)"),
    "outputs": (nn.Identity(), [(_LOGITS, _LABELS)], {"outputs": "softmax"}, "logits or probabilities"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(name: str) -> None:
    network, loader, options, says = MISTAKES[name]
    with pytest.raises((DataError, SpecError)) as caught:
        evaluate(network, loader, **options)
    assert says in str(caught.value)


def test_no_networks_to_compare() -> None:
    with pytest.raises(DataError, match="no network"):
        compare({}, [(_LOGITS, _LABELS)])


def test_half_precision_and_large_logits() -> None:
    logits = torch.tensor([[6e4, -6e4], [-6e4, 6e4]], dtype=torch.float16)
    found = evaluate(nn.Identity(), [(logits, torch.tensor([0, 0]))])
    assert isinstance(found, Evaluation)
    assert found.nll == pytest.approx(60_000, rel=0.01)
    assert (found.accuracy, found.brier, found.ece) == (0.5, 1.0, 0.5)
