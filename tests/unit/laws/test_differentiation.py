from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import packify
from packify.core.errors import PackError
from packify.laws.differentiation import explained
from packify.laws.observation import Batch
from tests.unit.laws.networks import BATCH, X, packed


class _Applied(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.one, self.two, self.function = nn.Linear(6, 8), nn.Linear(8, 4), function

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.function(self.one(x)))


def _pack(function: Any, **settings: Any) -> packify.PackedNetwork:
    return packify.pack(_Applied(function), X, alpha=2, num_estimators=2, average="mean", **settings)


def test_what_the_network_can_is_raised_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="mine"), explained(packed(), BATCH):
        raise RuntimeError("mine")


def test_what_is_overwritten_in_place() -> None:
    network = _pack(lambda h: h + torch.exp(h).add_(h).relu())
    network.member_template.recompile()
    with explained(network, Batch(X)):
        pass


class _WithoutDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError("derivative for aten::something is not implemented")


class _Undifferentiable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _WithoutDerivative.apply(x)  # type: ignore[no-any-return]


def test_what_torch_has_no_derivative_of() -> None:
    network = _pack(_Undifferentiable(), leaves=[_Undifferentiable])
    with pytest.raises(PackError, match="derivative for aten::something") as caught:
        packify.verify(network)
    assert "--no-verify" in caught.value.fix
    assert "member alone" in caught.value.why
