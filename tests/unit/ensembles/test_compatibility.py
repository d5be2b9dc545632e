from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import packify
from tests.models import images
from tests.unit.ensembles.small import small_network


def test_networks_that_differ() -> None:
    x = torch.randn(2, 9)
    with pytest.raises(packify.PackError, match=r"networks\[1\]"):
        packify.pack_members([images.mlp(), nn.Sequential(nn.Linear(9, 4))], x)
    for networks in ([], None, 3, nn.Sequential(nn.Linear(9, 4))):
        with pytest.raises(packify.SpecError, match="networks"):
            packify.pack_members(networks, x)


def _changed(change: str) -> nn.Module:
    model = small_network()
    match change:
        case "activation":
            model[2] = nn.Tanh()
        case "stride":
            model[0].stride = (2, 2)
        case "eps":
            model[1].eps = 0.1
        case "dtype":
            model.double()
        case "frozen":
            model[0].weight.requires_grad_(False)
        case "no data":
            model.to("meta")
        case "training only":
            model[2] = nn.RReLU(0.2, 0.2)
    return model


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("activation", "networks[1]: 2"), ("stride", "networks[1]: 0"), ("eps", "networks[1]: 1"), ("training only", "networks[1]: 2"),
        ("dtype", "networks[1]"), ("frozen", "networks[1]"), ("no data", "networks[1]"),
    ],
)  # fmt: skip
def test_networks_that_differ_without_differing_in_shape(change: str, where: str) -> None:
    x = torch.randn(2, 3, 8, 8)
    with pytest.raises(packify.PackError) as caught:
        packify.pack_members([small_network(), _changed(change)], x)
    assert caught.value.where.startswith(where)
    assert packify.pack_members(nn.ModuleList([_changed(""), _changed("")]), x).num_estimators == 2


class Holding(nn.Module):
    def __init__(self, offset: float) -> None:
        super().__init__()
        self.fc, self.offset = nn.Linear(5, 3), torch.full((3,), offset)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + self.offset


def test_networks_that_differ_in_a_constant() -> None:
    x = torch.randn(2, 5)
    packify.pack_members([Holding(1.0), Holding(1.0)], x)
    with pytest.raises(packify.PackError, match="register it as a buffer"):
        packify.pack_members([Holding(1.0), Holding(2.0)], x)


class Buffered(nn.Module):
    def __init__(self, scale: float = 2.0, order: tuple[int, ...] = (2, 1, 0)) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 3)
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("order", torch.tensor(order))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)[:, self.order] * self.scale


@pytest.mark.parametrize(("name", "other"), [("scale", Buffered(3.0)), ("order", Buffered(order=(0, 1, 2)))])
def test_networks_that_differ_in_what_members_share(name: str, other: nn.Module) -> None:
    x = torch.randn(2, 5)
    packify.pack_members([Buffered(), Buffered()], x)
    with pytest.raises(packify.PackError, match=rf"networks\[1\]: {name}"):
        packify.pack_members([Buffered(), other], x)
