"""Temperature scaling against a fine search."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import packify
from packify.core.errors import DataError, SpecError
from packify.evaluation import ConformalSets, TemperatureScaling, evaluate
from tests.unit.evaluation.calibrated import overconfident


@pytest.mark.parametrize("temperature", [0.05, 0.4, 1.0, 2.5, 40.0])
@pytest.mark.parametrize("classes", [2, 10])
def test_the_fitted_temperature_is_the_best_of_a_fine_search(temperature: float, classes: int) -> None:
    logits, labels = overconfident(2000, classes, temperature)
    scaling = TemperatureScaling().fit(logits, labels)
    assert scaling.temperature == pytest.approx(temperature, rel=0.15)
    for other in np.geomspace(scaling.temperature / 1.2, scaling.temperature * 1.2, 41):
        assert scaling.nll_after <= float(F.cross_entropy(logits / other, labels)) + 1e-12
    best = float(F.cross_entropy(logits / scaling.temperature, labels))
    for near in (0.999, 1.001):
        assert best < float(F.cross_entropy(logits / (scaling.temperature * near), labels))
    assert scaling.nll_before == pytest.approx(float(F.cross_entropy(logits, labels)))
    assert scaling.nll_after == pytest.approx(best)
    assert (scaling.samples, scaling.at_limit) == (2000, False)
    torch.testing.assert_close(scaling(logits), logits / scaling.temperature)


def test_extremes_end_at_the_limits() -> None:
    logits, _ = overconfident(50)
    right = TemperatureScaling().fit(logits, logits.argmax(1))
    assert (right.temperature, right.at_limit) == (pytest.approx(0.01), True)
    wrong = TemperatureScaling().fit(logits, logits.argmin(1))
    assert (wrong.temperature, wrong.at_limit) == (pytest.approx(100.0), True)
    assert TemperatureScaling().fit(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)).temperature > 0
    one = TemperatureScaling().fit(torch.tensor([[1e4, -1e4]]), torch.tensor([1]))
    assert one.at_limit
    huge, labels = overconfident(500, temperature=1.0)
    assert TemperatureScaling().fit((huge * 50).half(), labels).temperature == pytest.approx(50, rel=0.2)
    masked = torch.cat((huge, torch.full((500, 1), float("-inf"))), 1)
    assert TemperatureScaling().fit(masked, labels).temperature == pytest.approx(TemperatureScaling().fit(huge, labels).temperature)
    with pytest.raises(DataError, match="-inf"):
        TemperatureScaling().fit(masked, torch.full((500,), 6))


@pytest.fixture(scope="module")
def packed() -> Any:
    torch.manual_seed(0)
    network = packify.pack(nn.Linear(6, 4), torch.randn(4, 6), alpha=3, num_estimators=3)
    with torch.no_grad():
        network.weight.mul_(12)
    return network.eval()


def _loader(seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(40, 6, generator=generator), torch.randint(4, (40,), generator=generator)) for _ in range(5)]


def test_a_network_is_calibrated_by_its_own_prediction(packed: Any) -> None:
    packed.train()
    scaling = TemperatureScaling().fit(packed, _loader())
    assert packed.training
    packed.eval()
    with torch.no_grad():
        logits = torch.cat([packed(x) for x, _ in _loader()])
    labels = torch.cat([y for _, y in _loader()])
    assert scaling.temperature == pytest.approx(TemperatureScaling().fit(logits, labels).temperature, rel=1e-4)
    assert evaluate(packed, _loader(), temperature=scaling.temperature).nll == pytest.approx(scaling.nll_after, rel=1e-5)
    deep = TemperatureScaling().fit([packed.extract(m) for m in range(3)], _loader())
    assert deep.temperature == pytest.approx(scaling.temperature, rel=1e-4)


def test_many_samples_are_drawn_from(packed: Any) -> None:
    logits, labels = overconfident(20_000)
    loader = [(x, y) for x, y in zip(logits.split(700), labels.split(700), strict=True)]
    drawn = TemperatureScaling().fit(nn.Identity(), loader, max_samples=3000)
    assert drawn.samples == 3000
    assert drawn.temperature == pytest.approx(2.5, rel=0.1)
    assert TemperatureScaling().fit(nn.Identity(), loader, max_samples=3000) == drawn


def test_states_are_json() -> None:
    logits, labels = overconfident(30)
    scaling = TemperatureScaling().fit(logits, labels)
    assert TemperatureScaling.from_dict(json.loads(json.dumps(scaling.to_dict(), allow_nan=False))) == scaling
    assert TemperatureScaling.from_dict(TemperatureScaling().to_dict()) == TemperatureScaling()
    for sets in (
        ConformalSets("aps", 0.8),
        ConformalSets("aps", 0.8, 2.0).fit(logits, labels),
        ConformalSets(coverage=0.99).fit(logits, labels),
    ):
        assert ConformalSets.from_dict(json.loads(json.dumps(sets.to_dict(), allow_nan=False))) == sets


@pytest.mark.parametrize(
    "values",
    [
        None,
        ["kind"],
        {},
        {"kind": "temperature"},
        *({"kind": "temperature", "temperature": wrong} for wrong in ("2", float("nan"), 10**400)),
    ],
)
def test_foreign_states_of_a_temperature(values: Any) -> None:
    with pytest.raises(DataError, match="from_dict"):
        TemperatureScaling.from_dict(values)
    with pytest.raises(SpecError, match="temperature"):
        TemperatureScaling.from_dict({"kind": "temperature", "temperature": -1})
