"""Every operator between layers with weights: members equal themselves and the user's own code, and do not see each other."""

from __future__ import annotations

import pytest
import torch

import packify
from tests.laws import checks
from tests.models.around import Around, inputs, twin
from tests.unit.ops.image_operators import IMAGES, VECTORS
from tests.unit.ops.operators import POINTWISE, TOKENS, Table

_CASES: list[tuple[Table, str, str]] = [
    *((POINTWISE, ("image", "batch")[index % 2], name) for index, name in enumerate(POINTWISE)),
    *((TOKENS, context, name) for name in TOKENS for context in ("last", "batch")),
    *((IMAGES, "image", name) for name in IMAGES),
    *((VECTORS, "vector", name) for name in VECTORS),
]


def _check(packed: packify.PackedNetwork, x: torch.Tensor) -> None:
    network = checks.randomised(packed)
    checks.check_equality(network, x)
    checks.check_poison(network, x)
    checks.check_activations(network, x)


@pytest.mark.slow_cases("batch: einsum implicit")
@pytest.mark.parametrize(("table", "context", "name"), _CASES, ids=[f"{context}: {name}" for _, context, name in _CASES])
def test_operator(table: Table, context: str, name: str) -> None:
    torch.manual_seed(0)
    model, x = Around(table[name], context), inputs(context)
    recording = packify.record(model, x)
    checks.check_same_function(recording.pack(alpha=2, num_estimators=2), twin(model), x)
    _check(recording.pack(alpha=1.5, num_estimators=3), x.double())


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_operators_need_no_fallback_and_pin_nothing(name: str) -> None:
    torch.manual_seed(0)
    report = packify.pack(Around(POINTWISE[name], "batch"), inputs("batch"), alpha=1, num_estimators=2).report
    assert not report.fallbacks
    assert {layer.member_out for layer in report.layers if layer.name in ("first", "third")} == {4}
