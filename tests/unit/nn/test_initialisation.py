"""New members are drawn as the reference's scheme would draw them at the member's shape."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.nn.initialisation import draw, fans, resized, scheme_of


@pytest.mark.parametrize(
    ("fill", "fan", "uniform"),
    [
        (lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)), "in", True),
        (lambda w: nn.init.kaiming_normal_(w, mode="fan_in", nonlinearity="relu"), "in", False),
        (lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"), "out", False),
        (nn.init.xavier_uniform_, "avg", True),
        (nn.init.xavier_normal_, "avg", False),
        (lambda w: nn.init.normal_(w, std=0.3), "", False),
        (lambda w: nn.init.trunc_normal_(w, std=0.02), "", False),
    ],
)
def test_schemes_are_recognised_and_rescaled(fill: Callable[[Tensor], Tensor], fan: str, uniform: bool) -> None:
    torch.manual_seed(0)
    reference, wanted = fill(torch.empty(96, 256)), fill(torch.empty(48, 64))
    scheme = scheme_of(reference)
    assert (scheme.fan, scheme.uniform) == (fan, uniform)
    drawn = draw((48, 64), reference, scheme, torch.Generator().manual_seed(0))
    assert math.isclose(float(drawn.std()), float(wanted.std()), rel_tol=0.06)
    assert float(drawn.abs().max()) <= 1.3 * float(wanted.abs().max())


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-6, -2.5])
def test_constants_stay(value: float) -> None:
    reference = torch.full((7,), value)
    assert torch.equal(draw((3,), reference, scheme_of(reference), torch.Generator()), torch.full((3,), value))


def test_fans_of_convs() -> None:
    assert fans(torch.empty(8, 4, 3, 3)) == (36, 72)


def test_buffers_are_cut_or_repeated() -> None:
    assert resized(torch.arange(6), (3,)).tolist() == [0, 1, 2]
    assert resized(torch.arange(3), (5,)).tolist() == [0, 1, 2, 0, 1]


def test_members_of_a_network_have_the_scheme_of_their_own_shape() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 128, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)
    )
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    with torch.no_grad():
        model[1].running_mean.fill_(3)
    packed = packify.pack(model, torch.randn(2, 3, 8, 8), alpha=2, num_estimators=4)
    for share in packed.get_parameter("3.weight").detach().chunk(4):
        assert math.isclose(float(share.std()), math.sqrt(2 / (64 * 9)), rel_tol=0.05)
    assert not packed.get_parameter("3.bias").any()
    assert (packed.get_parameter("1.weight") == 1).all()
    assert not packed.get_buffer("1.running_mean").any()
    assert set(packed.report.initialised) == set(dict(model.named_parameters()))


def test_layer_scales_and_positions() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.out = nn.Linear(5, 64), nn.Linear(64, 3)
            self.scale = nn.Parameter(torch.full((64,), 1e-6))
            self.pos = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, 64), std=0.02))

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.fc(x)[:, None] * self.scale + self.pos).mean(1)

    packed = packify.pack(Net(), torch.randn(2, 5), alpha=2, num_estimators=2)
    assert (packed.get_parameter("scale") == 1e-6).all()
    assert 0.01 < float(packed.get_parameter("pos").detach().std()) < 0.03
