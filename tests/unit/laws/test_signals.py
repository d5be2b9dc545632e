"""The law of signal on networks of a few layers: what is compared, and when it is broken."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

import packify
from packify.core.errors import PackError
from packify.laws.signals import LayerSignal, Signal, signal

X = torch.randn(2, 12)


def _reference() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))


def _layer(reference: float, member: float) -> LayerSignal:
    return LayerSignal("fc", "linear", reference, member)


@pytest.mark.parametrize(
    ("reference", "member", "ratio", "within"),
    [
        (1.0, 2.0, 2.0, True),
        (2.0, 1.0, 0.5, True),
        (1.0, 2.01, 2.01, False),
        (0.0, 0.0, 1.0, True),
        (0.0, 1e-13, 1.0, True),
        (0.0, 1.0, math.inf, False),
        (1.0, 0.0, 0.0, False),
    ],
)
def test_a_layer_is_within_a_factor_of_two_or_not(reference: float, member: float, ratio: float, within: bool) -> None:
    layer = _layer(reference, member)
    assert layer.ratio == pytest.approx(ratio)
    assert layer.is_within is within


def test_the_worst_is_the_farthest_in_either_direction() -> None:
    layers = [_layer(1, 1.5), _layer(1, 0.2), _layer(1, 4)]
    found = Signal(layers, [_layer(1, 1)], 8)
    assert found.worst is layers[1]
    assert found.outside == layers[1:]
    assert str(found).startswith("2 of 4 standard deviations are within a factor of 2 of the reference's; ")
    assert str(found).endswith("the farthest is fc (linear), 0.2 times the reference's")
    assert Signal([_layer(1, 0)], [], 8).worst is not None
    assert Signal([], [], 8).worst is None
    assert json.loads(json.dumps(found.to_dict()))["layers"][1]["member"] == 0.2


def test_a_fresh_member_carries_signals_and_one_with_other_weights_does_not() -> None:
    model = _reference()
    packed = packify.pack(model, X, alpha=2, num_estimators=2)
    found = signal(packed, model, batch=32)
    assert [layer.name for layer in found.layers] == ["0", "3", "5"]
    assert not found.outside
    with torch.no_grad():
        packed.get_parameter("3.weight").mul_(9)
    assert signal(packed, model, batch=32).outside[0].name == "3"


def test_what_is_measured_is_left_as_it_was() -> None:
    model = _reference().eval()
    packed = packify.pack(model, X, alpha=2, num_estimators=2).eval()
    state, weights = torch.get_rng_state(), [parameter.clone() for parameter in (*model.parameters(), *packed.parameters())]
    first, again = signal(packed, model), signal(packed, model)
    assert first == again  # chance is taken out, and inputs are drawn by the seed
    assert signal(packed, model, seed=1) != first
    assert torch.get_rng_state().equal(state)
    assert (model.training, packed.training) == (False, False)
    assert all(a.equal(b) for a, b in zip(weights, (*model.parameters(), *packed.parameters()), strict=True))


def test_another_network_is_no_reference() -> None:
    packed = packify.pack(_reference(), X, alpha=2, num_estimators=2)
    with pytest.raises(PackError, match="no layer of the packed network's name"):
        signal(packed, nn.Sequential(nn.Flatten()))


def test_recurrent_layers_kept_whole_are_compared() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn, self.fc = nn.Linear(8, 32), nn.LSTM(32, 32, bidirectional=True, batch_first=True), nn.Linear(64, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.rnn(self.embed(x))[0])

    torch.manual_seed(0)
    model = Tagger()
    for kept in ((), (nn.LSTM,)):
        packed = packify.pack(model, torch.randn(2, 6, 8), alpha=2, num_estimators=4, leaves=kept)
        assert {"embed", "fc"} <= {layer.name for layer in signal(packed, model, batch=4).layers}
