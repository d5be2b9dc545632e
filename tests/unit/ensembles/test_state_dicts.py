"""Another implementation's weights: its names, its layout, our outputs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import packify

M = 4


class _Conv(nn.Module):
    """torch-uncertainty's packed conv: an ordinary grouped one, one level down."""

    def __init__(self, read: int, written: int, size: int, groups: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(read, written, size, stride=stride, padding=size // 2, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Linear(nn.Module):
    """torch-uncertainty's packed linear layer: weight ``"g o i"``, output ``"(m b) k"``."""

    def __init__(self, read: int, written: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.randn(groups, written // groups, read // groups) / 8)
        self.bias = nn.Parameter(torch.randn(written))

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv1d(x[..., None], self.weight.flatten(0, 1)[..., None], self.bias, groups=self.groups)[..., 0]
        return y.unflatten(1, (M, -1)).transpose(0, 1).flatten(0, 1)


class _Block(nn.Module):
    def __init__(self, read: int, written: int, stride: int, gamma: int) -> None:
        super().__init__()
        groups = M * gamma if written // M // gamma >= 64 else M
        self.conv1, self.bn1 = _Conv(read, written, 3, M, stride), nn.BatchNorm2d(written)
        self.conv2, self.bn2 = _Conv(written, written, 3, groups), nn.BatchNorm2d(written)
        self.shortcut = nn.Sequential()
        if stride != 1:
            reading = M * gamma if read // M // gamma >= 64 else M
            self.shortcut = nn.Sequential(_Conv(read, written, 1, reading, stride), nn.BatchNorm2d(written))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class _PackedResNet18(nn.Module):
    """torch-uncertainty's layout of a packed ResNet-18 for 32 x 32 images, PE-(2, 4, gamma)."""

    def __init__(self, gamma: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _Conv(3, 128, 3, 1), nn.BatchNorm2d(128)
        widths = (128, 128, 256, 512, 1024)
        for number in range(1, 5):
            read, written = widths[number - 1], widths[number]
            setattr(
                self, f"layer{number}", nn.Sequential(_Block(read, written, 1 + (number > 1), gamma), _Block(written, written, 1, gamma))
            )
        self.linear = _Linear(1024, 10 * M, M)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return self.linear(x.mean((2, 3)))


def _trained(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model.eval()


def _reference() -> nn.Module:
    net = timm.create_model("resnet18", num_classes=10)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return net


@pytest.mark.slow_cases("2", "1")
@pytest.mark.parametrize("gamma", [1, 2])
def test_a_packed_resnet_of_torch_uncertaintys_layout(gamma: int) -> None:
    torch.manual_seed(0)
    other, x = _trained(_PackedResNet18(gamma)), torch.randn(2, 3, 16, 16)
    packed = packify.pack(_reference(), x, alpha=2, num_estimators=M, gamma=gamma).eval()
    assert packify.load_weights(packed, other.state_dict()) is packed
    with torch.no_grad():
        torch.testing.assert_close(packed.members(x), other(x).unflatten(0, (M, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", [18, 50])
def test_torch_uncertaintys_own_packed_resnets(arch: int) -> None:
    classification = pytest.importorskip("torch_uncertainty.models.classification")
    torch.manual_seed(0)
    other = _trained(classification.packed_resnet(3, 10, arch, M, 2, 2, style="cifar"))
    net = timm.create_model(f"resnet{arch}", num_classes=10)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    x = torch.randn(2, 3, 32, 32)
    packed = packify.load_weights(packify.pack(net, x, alpha=2, num_estimators=M, gamma=2).eval(), other.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(packed.members(x), other(x).unflatten(0, (M, 2)), rtol=1e-4, atol=1e-5)


class _Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())


def _two(seed: int = 0) -> packify.PackedNetwork:
    torch.manual_seed(0)
    return packify.pack(_Two(), torch.randn(2, 4), alpha=2, num_estimators=2, seed=seed)


def _stored(packed: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(packed.state_dict())


def test_names_that_are_the_same_come_first_whatever_their_order() -> None:
    source, target = _two(0), _two(1)
    shuffled = dict(reversed(list(_stored(source).items())))
    packify.load_weights(target, shuffled)
    assert all(torch.equal(a, b) for a, b in zip(_stored(source).values(), _stored(target).values(), strict=True))


@pytest.mark.parametrize("how", ["dict", "function"])
def test_mappings(how: str) -> None:
    source, target = _two(0), _two(1)
    theirs = {f"net.{name}": tensor for name, tensor in _stored(source).items()} | {"step": torch.ones(())}
    mapping: Any = {name: f"net.{name}" for name in _stored(source)}
    if how == "function":
        mapping = lambda name: name.removeprefix("net.") if name.startswith("net.") else None  # noqa: E731
    else:
        del theirs["step"]
    packify.load_weights(target, theirs, mapping)
    assert all(torch.equal(a, b) for a, b in zip(_stored(source).values(), _stored(target).values(), strict=True))


def test_weights_that_do_not_fit() -> None:
    target = _two(1)
    before = _stored(target)

    def refused(state: Any, mapping: Any = None) -> str:
        with pytest.raises(packify.PackError) as caught:
            packify.load_weights(target, state, mapping)
        assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())
        return str(caught.value)

    state = _stored(_two(0))
    text = refused({**state, "last.weight": torch.ones(6, 9)})
    assert "(6, 9)" in text
    assert "last.weight of shape (6, 8)" in text
    assert "(8, 6)" in refused({**state, "last.weight": torch.ones(8, 6)})  # as many elements, in another order
    assert "4 tensors in the packed network, 5 in the weights" in refused({**state, "more": torch.ones(2)})
    del state["last.bias"]
    assert "last.bias" in refused(state)
    assert "no 'none'" in refused(_stored(_two(0)), {"none": "last.bias"})
    assert "a list" in refused([1])
