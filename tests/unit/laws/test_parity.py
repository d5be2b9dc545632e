from __future__ import annotations

import pytest

from packify.core.errors import LawBroken
from packify.laws.parity import measure_parity
from tests.unit.laws.networks import BATCH, broken, packed, steeper, unequal


def test_a_step_of_all_is_a_step_of_each() -> None:
    network = packed().train()
    before = network.get_parameter("0.weight").clone()
    equality, parity = measure_parity(network, BATCH, 1e-8)
    assert equality < 1e-12
    assert parity < 1e-12
    assert not before.equal(network.get_parameter("0.weight"))


def test_another_gradient_is_found() -> None:
    with pytest.raises(LawBroken, match="after one training step member 0's share differs") as caught:
        measure_parity(broken(steeper).train(), BATCH, 1e-8)
    assert caught.value.where == "0.weight"


def test_another_result_is_found_before_any_step() -> None:
    network = broken(unequal).train()
    before = network.get_parameter("0.weight").clone()
    with pytest.raises(LawBroken, match="train mode"):
        measure_parity(network, BATCH, 1e-8)
    assert before.equal(network.get_parameter("0.weight"))
