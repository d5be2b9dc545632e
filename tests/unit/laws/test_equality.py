from __future__ import annotations

import pytest
import torch

from packify.core.errors import LawBroken
from packify.laws.equality import compared, measure_equality
from tests.unit.laws.networks import BATCH, X, broken, mixed, packed, unequal


def test_members_that_are_equal() -> None:
    assert measure_equality(packed(), BATCH, 1e-8) < 1e-12
    assert measure_equality(broken(mixed), BATCH, 1e-8) < 1e-12


def test_the_first_node_that_differs_is_named() -> None:
    with pytest.raises(LawBroken, match=r"extract\(0\)\(x\) differs|differs from extract\(0\)") as caught:
        measure_equality(broken(unequal), BATCH, 1e-8)
    assert "member 0 in" in caught.value.where
    assert "tanh" in caught.value.fix


def test_hooks_that_change_what_a_part_computes_are_told() -> None:
    network = packed()
    part = next(module for name, module in network.named_modules() if name and not list(module.children()))
    part.register_forward_hook(lambda module, args, output: output * 2)
    with pytest.raises(LawBroken) as caught:
        measure_equality(network, BATCH, 1e-8)
    assert "take the hooks off" in caught.value.fix


def test_what_is_written_to_is_not_the_networks() -> None:
    network = packed()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    measure_equality(network, BATCH, 1e-8)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_only_the_own_member_is_compared() -> None:
    network = packed()
    single = network.extract(1)
    outputs = [torch.stack([torch.zeros(3, 4, dtype=torch.float64), single(X.double())])]
    assert compared(network, single, outputs, [single(X.double())], BATCH, 1, 1e-8) == 0
    with pytest.raises(LawBroken, match="output 0 of member 0"):
        compared(network, single, outputs, [single(X.double())], BATCH, 0, 1e-8)
