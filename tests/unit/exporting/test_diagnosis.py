from __future__ import annotations

import torch
from torch import nn

from packify.exporting.deployment import Deployment
from packify.exporting.diagnosis import place_of_failure, place_of_operator
from tests.unit.exporting.networks import conv_net, packed_of

X = torch.randn(2, 3, 8, 8)


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = conv_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        return torch.special.bessel_j0(y)


def test_the_node_and_the_line_of_an_operator() -> None:
    deployment = Deployment(packed_of(Odd(), "mean"), X).eval()
    said = "No ONNX function found for <OpOverload(op='aten.special_bessel_j0', overload='default')>."
    place, operator = place_of_operator(deployment, [X], said)
    assert operator == "aten.special_bessel_j0.default"
    assert "special_bessel_j0" in place
    assert "test_diagnosis.py:" in place


def test_what_is_not_there() -> None:
    deployment = Deployment(packed_of(conv_net()), X).eval()
    assert place_of_operator(deployment, [X], "the moon is full") == ("", "")
    assert place_of_operator(deployment, [X], "<OpOverload(op='aten.erfinv', overload='default')>")[0] == ""
    assert place_of_failure(deployment, [X]) == ""
    assert place_of_failure(Deployment(conv_net(), X), [X]) == ""


def test_the_node_at_which_tracing_stops() -> None:
    packed = packed_of(conv_net())
    deployment = Deployment(packed, X).eval()
    assert place_of_failure(deployment, [torch.randn(2, 4, 8, 8)]).startswith("0: conv2d")
