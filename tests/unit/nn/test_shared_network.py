"""Which tensors members share, which are their own, and what is said not to hold."""

from __future__ import annotations

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
