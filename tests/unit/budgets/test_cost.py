from __future__ import annotations

import json
import math
from dataclasses import replace

from packify.budgets.cost import CONVENTION_TEXT, CONVENTIONS, Budget, Cost
from packify.core.spec import Spec

_COST = Cost(100, 4, 1000, {"float32": 400, "int64": 32}, 400, inference_bytes=50, training_bytes=200, training_bytes_in_turn=60)


def test_memory_is_weights_and_a_batch_of_activations() -> None:
    assert _COST.total_weight_bytes == 432
    assert _COST.memory_bytes(8) == 432 + 8 * 50
    assert _COST.training_memory_bytes(8) == 432 + 3 * 400 + 8 * 200  # gradients and Adam's two moments
    assert _COST.training_memory_bytes(8, in_turn=True) == 432 + 3 * 400 + 8 * 60


def _budget(packed: Cost, reference: Cost = _COST) -> Budget:
    return Budget(Spec(2, 4), "macs", "float32", reference, packed, packed, reference)


def test_ratios_are_to_the_reference() -> None:
    budget = _budget(replace(_COST, params=150, mult_adds=250))
    assert (budget.params_ratio, budget.mult_adds_ratio) == (1.5, 0.25)
    nothing = replace(_COST, params=0, mult_adds=0)
    assert _budget(nothing, nothing).params_ratio == 1
    assert math.isnan(_budget(_COST, nothing).mult_adds_ratio)


def test_a_row_and_a_document_say_the_same() -> None:
    budget = _budget(replace(_COST, params=150))
    row, document = budget.row(), json.loads(json.dumps(budget.to_dict()))
    assert row["params"] == document["packed"]["params"] == 150
    assert row["member_width"] == 0.5
    assert document["packed"]["params_ratio"] == row["params_ratio"]
    assert document["packed"]["training_bytes_in_turn"] == row["training_bytes_in_turn"] == 60
    assert document["packed"]["total_weight_bytes"] == row["weight_bytes"]
    assert list(budget.networks()) == ["reference", "member", "packed", "deep_ensemble"]


def test_every_convention_is_explained() -> None:
    assert CONVENTION_TEXT.keys() == set(CONVENTIONS)
