from __future__ import annotations

import torch
from torch import nn

import packify
from packify.core.method_specs import METHOD_SPECS
from packify.ensembles.methods.making import MAKERS


def test_every_method_has_its_maker() -> None:
    assert set(MAKERS) == set(METHOD_SPECS.values())


def test_settings_make_the_network_of_their_method() -> None:
    recording = packify.record(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3)), torch.randn(2, 12))
    for kind in METHOD_SPECS.values():
        network = recording.method(kind(2), average="mean")
        assert network.spec == kind(2)
        assert network.method == kind.method
        assert network.members(torch.randn(2, 12)).shape == (2, 2, 3)
