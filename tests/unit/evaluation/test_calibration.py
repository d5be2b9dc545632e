"""A fitted temperature and fitted sets as one value."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from packify.core.errors import DataError
from packify.evaluation import Calibration, ConformalSets, TemperatureScaling


def _fitted() -> Calibration:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(50, 4, generator=generator), torch.randint(4, (50,), generator=generator)
    return Calibration(TemperatureScaling().fit(logits, labels), ConformalSets("aps", 0.8).fit(logits, labels))


def test_it_is_json_and_back() -> None:
    both = _fitted()
    for one in (Calibration(), both, Calibration(both.temperature), Calibration(sets=both.sets)):
        assert Calibration.from_dict(json.loads(json.dumps(one.to_dict(), allow_nan=False))) == one
    assert Calibration().to_dict() == {}


@pytest.mark.parametrize("values", [None, [], {"more": 1}, {"sets": None}, {"temperature": {}}])
def test_foreign_values(values: Any) -> None:
    with pytest.raises(DataError, match="from_dict"):
        Calibration.from_dict(values)


def test_what_was_not_fitted_or_is_something_else() -> None:
    with pytest.raises(DataError, match="not fitted"):
        Calibration(sets=ConformalSets())
    with pytest.raises(DataError, match="TemperatureScaling"):
        Calibration(2.0)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="ConformalSets"):
        Calibration(sets=TemperatureScaling())  # type: ignore[arg-type]
