from __future__ import annotations

from typing import Any

import pytest

from packify.core.errors import SpecError
from packify.core.method_specs import METHOD_SPECS, BatchEnsembleSpec, MasksemblesSpec, MimoSpec


@pytest.mark.parametrize("kind", METHOD_SPECS.values())
def test_settings_come_back_from_json(kind: Any) -> None:
    spec = kind(3)
    assert kind.from_dict(spec.to_dict()) == spec
    assert spec.to_dict()["method"] == kind.method == spec.label.split("-M3")[0]


@pytest.mark.parametrize(
    ("kind", "settings", "where"),
    [
        (BatchEnsembleSpec, {"num_estimators": 1}, "num_estimators (M)"),
        (BatchEnsembleSpec, {"num_estimators": True}, "num_estimators (M)"),
        (BatchEnsembleSpec, {"norms": "none"}, "norms"),
        (MasksemblesSpec, {"scale": 0.9}, "scale"),
        (MasksemblesSpec, {"scale": 6.1}, "scale"),
        (MasksemblesSpec, {"scale": float("nan")}, "scale"),
        (MasksemblesSpec, {"masked": "weights"}, "masked"),
        (MimoSpec, {"rho": -0.1}, "rho"),
        (MimoSpec, {"rho": 1.5}, "rho"),
        (MimoSpec, {"rho": "1"}, "rho"),
        (MimoSpec, {"batch_repetitions": 0}, "batch_repetitions"),
    ],
)
def test_out_of_range_is_one_clear_error(kind: Any, settings: dict[str, Any], where: str) -> None:
    with pytest.raises(SpecError) as caught:
        kind(**{"num_estimators": 4, **settings})
    assert caught.value.where == where
    assert caught.value.why
    assert caught.value.fix


def test_one_pattern_is_a_list_of_one() -> None:
    assert BatchEnsembleSpec(2, layers="a.*").layers == ("a.*",) == BatchEnsembleSpec(2, layers=["a.*"]).layers  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values", [{"method": "mimo"}, {"method": "mimo", "num_estimators": 2, "rho": 1, "batch_repetitions": 1, "more": 0}]
)
def test_other_fields_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="the settings of mimo"):
        MimoSpec.from_dict(values)
