"""The laws, and widths that really shrink, over operators that users bring."""

from __future__ import annotations

import pytest
import torch

import packify
from tests.laws import checks
from tests.models.user_rules import CASES

_SPECS = {
    "a2-M4": {"alpha": 2, "num_estimators": 4},
    "a1.5-M3": {"alpha": 1.5, "num_estimators": 3},
    "a2-M2-g2": {"alpha": 2, "num_estimators": 2, "gamma": 2, "min_channels_per_group": 1},
}


@pytest.mark.parametrize("spec", _SPECS.values(), ids=_SPECS)
@pytest.mark.parametrize("name", CASES)
def test_laws(name: str, spec: dict[str, float]) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    model, inputs = case.build(), case.inputs()
    packed = packify.pack(model, inputs, **spec)
    assert packify.verify(packed, inputs).equality < 1e-9
    if spec["alpha"] / spec["num_estimators"] == 0.5:
        assert packed.report.member_params <= case.most * packed.report.reference_params, str(packed.report)


@pytest.mark.parametrize("name", CASES)
def test_the_graph_computes_what_the_code_computes(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    checks.check_same_function(packify.pack(case.build(), case.inputs(), alpha=2, num_estimators=2), case.build, case.inputs())
