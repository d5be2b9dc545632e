"""Evaluating networks of numbers: Gaussian heads in every form, point predictions, ensembles, wrong targets."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

import packify
from packify.core.errors import DataError, SpecError
from packify.evaluation import RegressionEvaluation, compare, evaluate, uncertainty

M = 3


class Head(nn.Module):
    def __init__(self, targets: int = 1) -> None:
        super().__init__()
        self.body, self.out = nn.Sequential(nn.Linear(6, 30), nn.Tanh()), nn.Linear(30, 2 * targets)

    def forward(self, x: Tensor) -> Tensor:
        mean, raw = self.out(self.body(x)).chunk(2, -1)
        return torch.cat((mean, nn.functional.softplus(raw)), -1)


@pytest.fixture(scope="module")
def packed() -> Any:
    torch.manual_seed(0)
    return packify.pack(Head(), torch.randn(8, 6), alpha=3, num_estimators=M, average="gaussian").eval()


def _batches(samples: int = 40, seed: int = 0, scale: float = 1.0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(samples, 6, generator=generator)
    y = x[:, :1] + 0.1 * torch.randn(samples, 1, generator=generator)
    return list(zip(x.split(16), y.split(16), strict=True))


def test_the_mixture_is_what_is_measured(packed: Any) -> None:
    found = evaluate(packed, _batches(), ood=_batches(20, 1, 8.0), shift=_batches(30, 2))
    assert isinstance(found, RegressionEvaluation)
    x, y = (torch.cat(parts) for parts in zip(*_batches(), strict=True))
    with torch.no_grad():
        told, far = uncertainty(packed, x), uncertainty(packed, torch.cat([x for x, _ in _batches(20, 1, 8.0)]))
        averaged = packed(x)
    torch.testing.assert_close(torch.cat((told.mean, told.variance), 1), averaged)
    assert found.nll == pytest.approx(float(-Normal(told.mean, told.variance.sqrt()).log_prob(y).mean()), rel=1e-5)
    assert found.rmse == pytest.approx(math.sqrt(float((told.mean - y).square().mean())), rel=1e-5)
    assert found.aleatoric == pytest.approx(float(told.aleatoric.mean()), rel=1e-5)
    assert found.epistemic == pytest.approx(float(told.epistemic.mean()), rel=1e-5)
    from sklearn.metrics import roc_auc_score

    assert found.ood is not None
    truth = [0] * 40 + [1] * 20
    for name in ("variance", "epistemic"):
        scores = torch.cat((getattr(told, name), getattr(far, name)))
        assert getattr(found.ood, name).auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    assert len(found.members) == M
    assert found.members[0].epistemic == 0
    assert found.shift is not None
    assert found.shift.samples == 30
    json.dumps(found.to_dict(), allow_nan=False)
    assert "calibration error" in str(found)


def test_a_deep_ensemble_of_the_members_is_equal(packed: Any) -> None:
    members = [packed.extract(m) for m in range(M)]
    found = compare({"packed": packed, "deep": members, "single": members[1]}, _batches(), ood=_batches(20, 1))
    for name in ("rmse", "mae", "nll", "calibration_error", "sharpness", "aleatoric", "epistemic"):
        assert getattr(found["packed"], name) == pytest.approx(getattr(found["deep"], name), abs=2e-5), name
    assert found["single"].nll == pytest.approx(found["packed"].members[1].nll, rel=1e-5)
    assert found["single"].ood.epistemic.auroc == 0.5
    assert found.rows()[2]["epistemic"] == 0
    assert "packed: RMSE" in str(found)


class Given(nn.Module):
    """Returns its input in another form."""

    def __init__(self, form: Any) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Any:
        return self.form(x)


def test_heads_in_every_form() -> None:
    mean, variance, y = torch.randn(5, 2), torch.rand(5, 2) + 0.1, torch.randn(5, 2)
    x = torch.cat((mean, variance), 1)
    wanted = evaluate(nn.Identity(), [(x, y)], kind="gaussian")
    assert wanted.nll == pytest.approx(float(-Normal(mean, variance.sqrt()).log_prob(y).mean()), rel=1e-5)
    assert len(wanted.targets) == 2
    for kind, form in (
        ("regression", lambda x: tuple(x.chunk(2, 1))),
        ("regression", lambda x: dict(zip(("mean", "variance"), x.chunk(2, 1), strict=True))),
        ("gaussian", lambda x: tuple(x.chunk(2, 1))),
    ):
        assert evaluate(Given(form), [(x, y)], kind=kind) == wanted
    logs = torch.cat((mean, variance.log()), 1)
    assert evaluate(nn.Identity(), [(logs, y)], kind="gaussian", variance="log").nll == pytest.approx(wanted.nll, rel=1e-4)
    assert evaluate(Given(lambda x: {"a": 0, "both": x}), [(x, y)], kind="gaussian", output="both") == wanted
    maps = evaluate(nn.Identity(), [(x[..., None, None].expand(5, 4, 3, 2), y[..., None, None].expand(5, 2, 3, 2))], kind="gaussian")
    assert maps.nll == pytest.approx(wanted.nll, rel=1e-5)
    assert (maps.samples, maps.targets) == (60, ())


def test_numbers_alone() -> None:
    outputs, y = torch.randn(7), torch.randn(7)
    for form, targets in ((outputs, y), (outputs[:, None], y), (outputs[:, None], y[:, None]), (outputs[:, None], y.tolist())):
        found = evaluate(nn.Identity(), [(form, targets)], kind="regression")
        assert found.rmse == pytest.approx(math.sqrt(float((outputs - y).square().mean())), rel=1e-5)
        assert found.nll is None
    ensemble = evaluate([nn.Identity(), Given(lambda x: x + 1)], [(outputs, y)], kind="regression")
    assert ensemble.epistemic == pytest.approx(0.25)
    assert ensemble.rmse == pytest.approx(math.sqrt(float((outputs + 0.5 - y).square().mean())), rel=1e-5)
    assert "NLL" not in str(ensemble)


@pytest.mark.parametrize(
    ("kind", "batch", "options", "says"),
    [
        ("regression", (torch.zeros(3, 2), torch.zeros(3, 1)), {}, "(3, 2) per member and targets of shape (3, 1)"),
        ("regression", (torch.zeros(3, 2), torch.zeros(3, 1)), {}, 'kind="gaussian"'),
        ("gaussian", (torch.zeros(3, 2), torch.zeros(4)), {}, "(3, 1) per member and targets of shape (4,)"),
        ("gaussian", (torch.zeros(3, 3), torch.zeros(3)), {}, "(2 d)"),
        ("gaussian", (torch.full((3, 2), -1.0), torch.zeros(3)), {}, "a variance of -1"),
        ("gaussian", (torch.full((3, 2), torch.nan), torch.zeros(3)), {}, "NaN"),
        ("regression", (torch.zeros(3, 2), torch.full((3, 2), torch.inf)), {}, "targets"),
        ("regression", torch.zeros(3, 2), {}, "without labels"),
        ("gaussian", (torch.ones(3, 2), torch.zeros(3)), {"variance": "std"}, "std"),
        ("gaussian", (torch.ones(3, 2), torch.zeros(3)), {"ignore_index": 0}, "ignore_index=0"),
        ("numbers", (torch.ones(3, 2), torch.zeros(3)), {}, "kind='numbers'"),
        ("gaussian", (torch.ones(3, 2), torch.zeros(3)), {"ood": []}, "out-of-distribution data"),
    ],
)
def test_mistakes_are_told(kind: Any, batch: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises((DataError, SpecError)) as caught:
        evaluate(nn.Identity(), [batch], kind=kind, **options)
    assert says in str(caught.value)
    assert caught.value.found
    assert caught.value.why
    assert caught.value.fix


def test_networks_of_two_kinds_have_no_table(packed: Any) -> None:
    torch.manual_seed(0)
    labels = packify.pack(Head(), torch.randn(8, 6), alpha=2, num_estimators=2, average="sigmoid")
    with pytest.raises(SpecError, match="gaussian, multilabel"):
        compare({"a": packed, "b": labels}, _batches())
    assert compare({"a": packed, "b": labels}, _batches(), kind="gaussian")["b"].num_estimators == 2
