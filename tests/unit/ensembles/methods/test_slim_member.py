from __future__ import annotations

import copy
import pickle

import torch
from torch import nn

import packify


def _network() -> packify.SharedNetwork:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3))
    return packify.masksembles(model, torch.randn(2, 12), average="mean")


def test_copies_and_pickles_make_the_same_members() -> None:
    network, x = _network(), torch.randn(4, 12)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(twin.extract(1)(x), network.extract(1)(x))


def test_a_member_takes_the_weights_as_they_are_now() -> None:
    network, x = _network(), torch.randn(4, 12)
    with torch.no_grad():
        network.get_parameter("0.weight").mul_(2)
    assert torch.allclose(network.extract(-1)(x), network.members(x)[-1], atol=1e-5)


def test_a_weight_that_is_computed_keeps_its_columns_and_the_mask_its_place() -> None:
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.utils.parametrizations.weight_norm(nn.Linear(16, 3)))
    network, x = packify.masksembles(model, torch.randn(2, 12), average="mean"), torch.randn(4, 12)
    alone = network.extract(0)
    assert torch.allclose(alone(x), network.members(x)[0], atol=1e-6)
    assert any(name.endswith("mask") for name, _ in alone.named_buffers())
