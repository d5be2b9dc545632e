"""The published packed networks: Table 1's parameter counts, and the weight shapes of another implementation."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

import packify
from tests.examples import example


@pytest.fixture(scope="module")
def cifar() -> ModuleType:
    return example("cifar")


def _packed(cifar: ModuleType, name: str, gamma: int, classes: int = 10, alpha: float = 2, policy: str = "paper") -> packify.PackedNetwork:
    with torch.device("meta"):
        settings = {"conv_bias": False} if name.startswith("wide") else {}  # the published packed Wide ResNet has none
        model = getattr(cifar, name)(num_classes=classes, **settings)
        return packify.pack(model, torch.empty(2, 3, 32, 32), alpha=alpha, num_estimators=4, gamma=gamma, gamma_policy=policy)


@pytest.mark.parametrize(
    ("name", "gamma", "classes", "millions"),
    [
        ("resnet18", 2, 10, "8.176"),
        ("resnet50", 2, 10, "14.552"),
        ("wide_resnet28_10", 2, 10, "19.352"),
        ("wide_resnet28_10", 1, 100, "36.62"),
    ],
)
def test_table_1(cifar: ModuleType, name: str, gamma: int, classes: int, millions: str) -> None:
    packed = _packed(cifar, name, gamma, classes)
    count = sum(parameter.numel() for parameter in packed.parameters())
    assert f"{count / 1e6:.{len(millions.split('.')[1])}f}" == millions
    assert packed.report.packed_params == count


@pytest.mark.quick_cases(1)
@pytest.mark.parametrize(("name", "convs", "grouped"), [("resnet18", 20, 5), ("resnet50", 53, 21), ("wide_resnet28_10", 28, 16)])
def test_the_papers_gamma_is_kept_on_as_many_convs(cifar: ModuleType, name: str, convs: int, grouped: int) -> None:
    layers = [layer for layer in _packed(cifar, name, 2).report.layers if "conv" in layer.kind.lower()]
    assert len(layers) == convs
    assert sum(layer.gamma > 1 for layer in layers) == grouped


@pytest.mark.parametrize(("name", "millions"), [("resnet18", "5.612"), ("resnet50", "11.873")])
def test_the_uniform_policy(cifar: ModuleType, name: str, millions: str) -> None:
    packed = _packed(cifar, name, 2, policy="uniform")
    assert f"{packed.report.packed_params / 1e6:.3f}" == millions


def test_every_conv_weight_has_the_published_shape(cifar: ModuleType) -> None:
    packed = _packed(cifar, "resnet18", 2)
    reference = dict(cifar.resnet18().named_modules())
    gammas = {layer.name: layer.gamma for layer in packed.report.layers}
    for name, module in packed.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            own = reference[name]
            groups = 1 if name == "conv1" else 4 * gammas[name]
            inp = 3 if name == "conv1" else 2 * own.in_channels // groups
            assert tuple(module.weight.shape) == (2 * own.out_channels, inp, *own.kernel_size), name
    assert tuple(packed.fc.weight.shape) == (4 * 10, 2 * 512 // 4)


def test_a_deep_ensemble_is_four_references(cifar: ModuleType) -> None:
    packed = _packed(cifar, "resnet18", 1, alpha=4)
    assert packed.report.packed_params == 4 * packed.report.reference_params
