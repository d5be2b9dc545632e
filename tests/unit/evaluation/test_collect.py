from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from packify.core.errors import DataError, SpecError
from packify.evaluation import ConformalSets, TemperatureScaling
from packify.evaluation.collect import calibration_batches, class_logits, is_finite_number
from tests.unit.evaluation.calibrated import overconfident


def test_pixels_and_ignored_labels() -> None:
    logits, labels = overconfident(600)
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


def test_wrong_input() -> None:
    logits, labels = overconfident(10)
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


def test_bounds_of_memory_are_whole_numbers() -> None:
    logits, labels = overconfident(10)
    for wrong in (0, -1, 2.5):
        with pytest.raises(SpecError, match="max_samples"):
            TemperatureScaling().fit(logits, labels, max_samples=wrong)  # type: ignore[arg-type]
        with pytest.raises(SpecError, match="max_scores"):
            ConformalSets().fit(logits, labels, max_scores=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [True, "1", None, [1], float("nan"), float("inf"), 10**400, -(10**400)])
def test_numbers_that_a_file_may_hold_and_a_float_may_not(value: Any) -> None:
    assert not is_finite_number(value)
    assert is_finite_number(2)
    assert is_finite_number(-1e308)


def test_what_a_network_is_fitted_on_is_the_log_of_the_mean_softmax() -> None:
    x, labels = torch.randn(6, 3), torch.randint(3, (6,))
    networks = [nn.Identity(), nn.LogSigmoid()]
    wanted = ((x.softmax(1) + nn.functional.logsigmoid(x).softmax(1)) / 2).log()
    found = list(calibration_batches(networks, [(x[:4], labels[:4]), (x[4:], labels[4:])], {}))
    assert [len(own) for _, own in found] == [4, 2]
    assert all(logits.dtype == torch.float64 and not logits.requires_grad for logits, _ in found)
    torch.testing.assert_close(torch.cat([logits for logits, _ in found]).float(), wanted)


def test_class_logits_have_their_classes_last() -> None:
    logits = torch.randn(2, 3, 4).half()
    assert class_logits(logits, 1).equal(logits.float().movedim(1, -1))
    assert class_logits(torch.zeros(2, dtype=torch.float64)).dtype == torch.float64
    for wrong in (torch.zeros(2, 1), torch.zeros(2, 3).long(), torch.tensor(0.0)):
        with pytest.raises(DataError, match="at least two classes"):
            class_logits(wrong)
    assert class_logits(torch.tensor([[0.0, float("-inf")]])).isfinite().sum() == 1
    for value in (float("inf"), float("nan")):
        with pytest.raises(DataError, match="NaN or infinite"):
            class_logits(torch.tensor([[0.0, value]]))
