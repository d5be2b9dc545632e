"""Temperature scaling against a fine search, conformal sets against their definition and their promise."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import packify
from packify.core.errors import DataError, SpecError
from packify.evaluation import ConformalSets, TemperatureScaling, evaluate


def _data(samples: int, classes: int = 6, temperature: float = 2.5, seed: int = 0, scale: float = 1.5) -> tuple[Tensor, Tensor]:
    """Logits that are `temperature` times as large as the labels warrant."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, classes, generator=generator, dtype=torch.float64) * scale
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.05, 0.4, 1.0, 2.5, 40.0])
@pytest.mark.parametrize("classes", [2, 10])
def test_the_fitted_temperature_is_the_best_of_a_fine_search(temperature: float, classes: int) -> None:
    logits, labels = _data(2000, classes, temperature)
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
    logits, _ = _data(50)
    right = TemperatureScaling().fit(logits, logits.argmax(1))
    assert (right.temperature, right.at_limit) == (pytest.approx(0.01), True)
    wrong = TemperatureScaling().fit(logits, logits.argmin(1))
    assert (wrong.temperature, wrong.at_limit) == (pytest.approx(100.0), True)
    assert TemperatureScaling().fit(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)).temperature > 0
    one = TemperatureScaling().fit(torch.tensor([[1e4, -1e4]]), torch.tensor([1]))
    assert one.at_limit
    huge, labels = _data(500, temperature=1.0)
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
    logits, labels = _data(20_000)
    loader = [(x, y) for x, y in zip(logits.split(700), labels.split(700), strict=True)]
    drawn = TemperatureScaling().fit(nn.Identity(), loader, max_samples=3000)
    assert drawn.samples == 3000
    assert drawn.temperature == pytest.approx(2.5, rel=0.1)
    assert TemperatureScaling().fit(nn.Identity(), loader, max_samples=3000) == drawn


def test_pixels_and_ignored_labels() -> None:
    logits, labels = _data(600)
    maps, label_maps = logits.view(6, 10, 10, 6).movedim(-1, 1), labels.view(6, 10, 10).clone()
    label_maps[0] = 255
    scaling = TemperatureScaling().fit(nn.Identity(), [(maps, label_maps)], ignore_index=255)
    assert scaling.samples == 500
    assert scaling.temperature == pytest.approx(TemperatureScaling().fit(logits[100:], labels[100:]).temperature, rel=1e-6)
    sets = ConformalSets().fit(nn.Identity(), [(maps, label_maps)], ignore_index=255)
    assert sets.samples == 500
    torch.testing.assert_close(sets(maps, axis=1).movedim(1, -1).reshape(600, 6), sets(logits))
    with pytest.raises(DataError, match="no labelled sample"):
        TemperatureScaling().fit(nn.Identity(), [(maps, torch.full_like(label_maps, 255))], ignore_index=255)
    with pytest.raises(DataError, match="no labelled sample"):
        ConformalSets().fit(nn.Identity(), [(maps, torch.full_like(label_maps, 255))], ignore_index=255)


@pytest.mark.parametrize("method", ["threshold", "aps"])
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.99])
def test_coverage_holds_over_many_calibration_sets(method: Any, coverage: float) -> None:
    covered, sizes = [], []
    for seed in range(60):
        logits, labels = _data(400, 8, 3.0, seed)
        sets = ConformalSets(method, coverage).fit(logits[:100], labels[:100])(logits[100:])
        covered.append(float(sets.gather(1, labels[100:, None]).double().mean()))
        sizes.append(float(sets.double().sum(1).mean()))
    # the mean over calibration sets is at least the coverage; its own deviation is about 0.04 / sqrt(60)
    assert np.mean(covered) >= coverage - 0.015
    if method == "threshold":
        assert np.mean(covered) <= coverage + 1 / 101 + 0.015
    assert np.mean(sizes) < 8


def test_scores_and_quantile_are_their_definitions() -> None:
    logits, labels = _data(37, 5)
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
    logits, labels = _data(9, 5)
    worst = max(1 - logits.softmax(1).gather(1, labels[:, None]).flatten().numpy())
    assert ConformalSets(coverage=0.9).fit(logits, labels).quantile == pytest.approx(worst)  # (9 + 1) * 0.9 is 9
    few = ConformalSets(coverage=0.91).fit(logits, labels)
    assert few.quantile == math.inf
    assert few(logits).all()


def test_rounded_scores_keep_the_coverage() -> None:
    logits, labels = _data(20_000, 8)
    exact = ConformalSets().fit(logits, labels)
    rounded = ConformalSets().fit(logits, labels, max_scores=500)
    assert exact.quantile <= rounded.quantile <= exact.quantile * 1.05
    assert float(rounded(logits).gather(1, labels[:, None]).double().mean()) >= 0.9


def test_half_precision_and_temperature() -> None:
    logits, labels = _data(300)
    sets = ConformalSets("aps", 0.9, temperature=2.5).fit(logits, labels)
    torch.testing.assert_close(sets(logits), ConformalSets("aps", 0.9).fit(logits / 2.5, labels)(logits / 2.5))
    assert sets(logits.half()).dtype == torch.bool


def test_states_are_json() -> None:
    logits, labels = _data(30)
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
    [None, {}, {"kind": "temperature"}, {"kind": "temperature", "temperature": "2"}, {"kind": "temperature", "temperature": float("nan")}],
)
def test_foreign_states_of_a_temperature(values: Any) -> None:
    with pytest.raises(DataError, match="from_dict"):
        TemperatureScaling.from_dict(values)
    with pytest.raises(SpecError, match="temperature"):
        TemperatureScaling.from_dict({"kind": "temperature", "temperature": -1})


@pytest.mark.parametrize(
    "change", [{"kind": "x"}, {"more": 1}, {"quantile": "0.5"}, {"coverage": True}, {"temperature": float("nan")}, {"samples": None}]
)
def test_foreign_states_of_sets(change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="from_dict"):
        ConformalSets.from_dict({**ConformalSets().to_dict(), **change})
    with pytest.raises(SpecError, match="coverage"):
        ConformalSets.from_dict({**ConformalSets().to_dict(), "coverage": 1.5})
    with pytest.raises(SpecError, match="method"):
        ConformalSets.from_dict({**ConformalSets().to_dict(), "method": "raps"})


def test_wrong_input() -> None:
    logits, labels = _data(10)
    for make in (TemperatureScaling, ConformalSets):
        for wrong in ((logits, labels[:9]), (logits[:0], labels[:0]), (logits[0], labels), (logits, labels + 6), (logits, [1])):
            with pytest.raises(DataError):
                make().fit(*wrong)
        with pytest.raises(DataError, match="fitted on"):
            make().fit(nn.Identity(), labels)
        with pytest.raises(DataError, match="NaN"):
            make().fit(logits * float("nan"), labels)
        with pytest.raises(DataError, match="no batch"):
            make().fit(nn.Identity(), [])
    with pytest.raises(DataError, match="fit"):
        ConformalSets()(logits)
    with pytest.raises(DataError, match="two classes"):
        ConformalSets().fit(logits, labels)(logits[:, :1])
    for wrong_value in (0, 1, -0.1, True, "0.9"):
        with pytest.raises(SpecError, match="coverage"):
            ConformalSets(coverage=wrong_value)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="temperature"):
        TemperatureScaling(0.0)
