from __future__ import annotations

import pytest
import torch
from torch import Tensor

from packify.core.errors import LawBroken
from packify.laws.independence import measure_independence
from tests.unit.laws.networks import BATCH, broken, mixed, packed, steeper, unequal


@pytest.mark.parametrize("network", [packed(), broken(unequal), broken(steeper)])
def test_members_that_do_not_see_each_other(network: torch.nn.Module) -> None:
    leak, places = measure_independence(network.eval(), BATCH)
    assert leak == 0
    assert places >= 7  # four parameters, three activations


def test_gradients_that_are_exactly_zero_are_none() -> None:
    assert measure_independence(broken(mixed).eval(), BATCH)[0] == 0


def _leaking(x: Tensor) -> Tensor:
    return x + x.flip(tuple(range(x.dim())))


def test_a_leak_names_both_members_and_the_node() -> None:
    with pytest.raises(LawBroken, match="member 0's output with respect to member 1's share") as caught:
        measure_independence(broken(_leaking).eval(), BATCH)
    assert caught.value.where == "0.weight"


def test_frozen_parameters_are_looked_at_too() -> None:
    network = broken(_leaking).eval()
    network.requires_grad_(False)
    with pytest.raises(LawBroken):
        measure_independence(network, BATCH)
    assert not any(parameter.requires_grad for parameter in network.parameters())
