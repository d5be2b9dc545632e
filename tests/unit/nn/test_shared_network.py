"""Which tensors members share, which are their own, and what is said not to hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import packify


def _ensemble(norms: str) -> packify.PackedNetwork:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 4, 5))
    return packify.batch_ensemble(model, torch.randn(2, 3, 4, 4), num_estimators=3, norms=norms, average="probs")


def test_own_tensors_hold_one_part_for_every_member() -> None:
    network = _ensemble("shared")
    assert network.method == "batch-ensemble"
    assert {"0.r", "0.s", "0.bias", "4.bias"} <= network.own
    assert {"0.r", "0.s"} <= network.added
    assert "0.weight" not in network.own
    for name in ("0.bias", "4.bias"):
        held = network.get_parameter(name)
        own = network.member_tensor(name, 1, torch.Size((held.shape[0] // 3,)))
        assert torch.equal(own, held.detach().chunk(3)[1])


def test_a_members_weight_has_its_factors_folded_in() -> None:
    network = _ensemble("shared")
    weight = network.get_parameter("4.weight").detach()
    r, s = (network.get_parameter(f"4.{name}").detach()[2] for name in "rs")
    assert torch.allclose(network.member_tensor("4.weight", 2, weight.shape), s[:, None] * weight * r)


def test_shared_norms_are_said_to_couple_the_members() -> None:
    assert any("batch norms" in law for law in _ensemble("shared").does_not_hold)
    assert not any("batch norms" in law for law in _ensemble("member").does_not_hold)


def _methods() -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.GroupNorm(3, 12), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 4, 16), nn.ReLU(), nn.Linear(16, 5)
    )
    recording = packify.record(model.double(), torch.randn(2, 3, 4, 4).double())
    return {
        "batch-ensemble": recording.batch_ensemble(num_estimators=3),
        "masksembles": recording.masksembles(num_estimators=3),
        "mimo": recording.mimo(num_estimators=3),
    }


@pytest.mark.parametrize("method", ["batch-ensemble", "masksembles"])
@pytest.mark.parametrize("inputs", ["shared", "independent"])
def test_members_in_turn_compute_what_one_pass_does(method: str, inputs: Any) -> None:
    network, x = _methods()[method].train(), torch.randn(6, 3, 4, 4).double()
    network.inputs = inputs
    assert network.strategy == "auto"
    found = {}
    for strategy in ("grouped", "in turn", "threads"):
        network.strategy = strategy
        network.zero_grad()
        output = network(x)
        output.sin().sum().backward()
        found[strategy] = [output, *(parameter.grad for parameter in network.parameters())]
    for strategy in ("in turn", "threads"):
        assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(found["grouped"], found[strategy], strict=True))
    if inputs == "shared":
        network.zero_grad()
        for member in network.turns():
            member(x).sin().sum().backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(found["grouped"][1:], gradients, strict=True))


def test_strategies_that_members_of_shared_weights_do_not_have_are_refused() -> None:
    networks = _methods()
    with pytest.raises(packify.SpecError, match="'auto', 'grouped', 'in turn', 'threads'"):
        networks["batch-ensemble"].strategy = "per layer"
    with pytest.raises(packify.SpecError, match=r"ways: 'auto', 'grouped'\n"):
        networks["mimo"].strategy = "in turn"
    with pytest.raises(packify.PackError, match="one network between"):
        networks["mimo"].turns()
    tuned = networks["masksembles"].tune(torch.randn(2, 3, 4, 4).double(), budget_s=0.05)
    assert {one.strategy for one in tuned.tried} <= {"grouped", "in turn", "threads"}


def test_where_shared_norms_couple_members_they_train_in_one_pass() -> None:
    network, x = _ensemble("shared").train(), torch.randn(4, 3, 4, 4)
    wanted = network.members(x)
    network.strategy = "in turn"
    assert torch.equal(network.members(x), wanted)
    with pytest.raises(packify.PackError, match="statistics"):
        network.turns()
    network.eval().strategy = "grouped"
    wanted = network.members(x)
    network.strategy = "in turn"
    assert torch.allclose(network.members(x), wanted, atol=1e-6)


@pytest.mark.parametrize("method", ["batch-ensemble", "masksembles", "mimo"])
def test_what_only_members_of_their_own_weights_can_is_refused(method: str) -> None:
    network = _methods()[method]
    for call in (network.eval().fuse, lambda: network.resize("6", 3)):
        with pytest.raises(packify.PackError) as caught:
            call()
        assert caught.value.why
        assert caught.value.fix
