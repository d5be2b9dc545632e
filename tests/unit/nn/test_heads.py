"""New heads: a last layer with another number of outputs for every member."""

from __future__ import annotations

import pytest
import torch

import packify
from packify.core.errors import PackError
from tests.unit.nn.exchanged import IMAGES, Network


@pytest.fixture
def packed() -> packify.PackedNetwork:
    torch.manual_seed(0)
    return packify.pack(Network(), IMAGES, alpha=2, num_estimators=2).eval()


def test_every_member_gets_a_new_head(packed: packify.PackedNetwork) -> None:
    packed.resize("fc", 37)
    assert packed(IMAGES).shape == (2, 37)
    outputs = packed.members(IMAGES)
    assert outputs.shape == (2, 2, 37)
    for member in range(2):
        torch.testing.assert_close(packed.extract(member).eval()(IMAGES), outputs[member])
    assert not torch.equal(outputs[0], outputs[1])
    packify.verify(packed)
    assert packed.get_parameter("fc.weight").shape == (74, 8)
    assert packed.report.packed_params == sum(parameter.numel() for parameter in packed.parameters())
    (layer,) = (layer for layer in packed.report.layers if layer.name == "fc")
    assert layer.member_out == 37
    packed.train()(IMAGES).sum().backward()


def test_a_head_that_is_no_last_layer_is_refused(packed: packify.PackedNetwork) -> None:
    before = packed(IMAGES)
    for name, found in (("stem", "what reads this layer"), ("layers.0.act", "a ReLU"), ("nothing", "no such part")):
        with pytest.raises(PackError, match=found):
            packed.resize(name, 37)
    assert torch.equal(packed(IMAGES), before)
