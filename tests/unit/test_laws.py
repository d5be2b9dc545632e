"""`packify.verify`: quiet on what is right, and an error that names the node on what is broken."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import Tensor, nn

import packify
from tests.models.catalogue import CASES


@pytest.mark.parametrize(
    "name",
    [
        "mlp",
        "unet",
        "vit",
        "lstm",
        "text",
        "reused",
        "weight norm",
        "auxiliary",
        "random drop path",
        "random encoder",
        "two named inputs",
        "seq2seq",
    ],
)
def test_networks_that_keep_the_laws(name: str) -> None:
    torch.manual_seed(0)
    inputs = CASES[name].inputs()
    packed = packify.pack(CASES[name].build(), inputs, alpha=2, num_estimators=2)
    before, state = copy.deepcopy(packed.state_dict()), torch.get_rng_state()
    mode = [module.training for module in packed.modules()]
    for result in (packify.verify(packed), packify.verify(packed, inputs)):
        assert result.independence == 0
        assert result.equality < 1e-8
        assert result.parity < 1e-5
        assert result.activations > 0
        assert json.dumps(result.to_dict())
        assert str(result)
    assert all(torch.equal(tensor, before[key]) for key, tensor in packed.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert mode == [module.training for module in packed.modules()]


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.tanh(self.one(x))).mean((2, 3))


def test_a_rule_that_mixes_members_is_caught_and_named() -> None:
    def mix(rider: object, node: object, x: object) -> object:
        return rider.result(rider.emit(_rolled, x), node.meta["val"], x.axis)

    bad = packify.Rule("pointwise", lambda walk, x: x.dims, mix)
    packed = packify.pack(Mixing(), torch.randn(2, 3, 4, 4), alpha=2, num_estimators=2, rules={"tanh": bad})
    with pytest.raises(packify.LawBroken) as caught:
        packify.verify(packed)
    assert "member" in str(caught.value)


def _rolled(x: Tensor) -> Tensor:
    return torch.tanh(x).roll(1, 1)


def test_independent_inputs() -> None:
    packed = packify.pack(Mixing(), torch.randn(4, 3, 4, 4), alpha=2, num_estimators=2, inputs="independent")
    assert packify.verify(packed).independence == 0


def test_a_network_without_data() -> None:
    with torch.device("meta"):
        model = Mixing()
    packed = packify.pack(model, torch.empty(2, 3, 4, 4), alpha=2, num_estimators=2)
    with pytest.raises(packify.PackifyError):
        packify.verify(packed)
