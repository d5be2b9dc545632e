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


@pytest.mark.slow_cases("resnet50")
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


@pytest.mark.quick_cases(1)
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


_TOKENS = {
    "vit_small_patch16_224": (
        48,
        {
            "patch_embed.proj": "first layer",
            "blocks.*.attn.qkv": "gamma 2, each of 9 parts",  # three heads, which two groups would tear apart: each is a part
            "blocks.*.attn.proj": "gamma 2",
            "blocks.*.mlp.fc1": "gamma 2",
            "blocks.*.mlp.fc2": "gamma 2",
            "head": "last layer",
        },
    ),
    "swin_tiny_patch4_window7_224": (
        39,
        {
            "layers.1.blocks.*.attn.qkv": "96 inputs are too few",
            "layers.2.downsample.reduction": "gamma 2",
            "layers.2.blocks.*.attn.qkv": "gamma 2, each of 3 parts",  # six heads, three for each group
            "head.fc": "last layer",
        },
    ),
    "convnext_tiny": (31, {"stem.0": "first layer", "stages.2.blocks.*.conv_dw": "depthwise", "stages.2.blocks.*.mlp.fc1": "gamma 2"}),
    "resnet50": (21, {"layer3.*.conv1": "opens a residual branch", "layer3.*.conv3": "gamma 2", "layer3.*.downsample.0": "gamma 2"}),
}


@pytest.mark.slow
@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("name", _TOKENS)
def test_where_the_papers_policy_keeps_gamma(name: str) -> None:
    """As examples/gamma.py prints it."""
    script = example("gamma")
    kept, wanted = _TOKENS[name]
    found = script.rows(name)
    assert sum(count for _, count, reason in found if reason.startswith("gamma")) == kept
    assert {layer: reason for layer, _, reason in found if layer in wanted} == wanted


def test_the_papers_policy_in_a_post_norm_block() -> None:
    """q|k|v and the first layer of the MLP read the stream directly, and so mix its subgroups."""
    model = torch.nn.ModuleDict({name: torch.nn.Linear(*sizes) for name, sizes in _POST_NORM.items()})
    norms = torch.nn.ModuleDict({"one": torch.nn.LayerNorm(64), "two": torch.nn.LayerNorm(64)})

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.norms = model, norms

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.layers["embed"](x)
            q, k, v = self.layers["qkv"](x).unflatten(-1, (3, 4, 16)).permute(2, 0, 3, 1, 4).unbind(0)
            attended = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            x = self.norms["one"](x + self.layers["proj"](attended))
            return self.layers["head"](self.norms["two"](x + self.layers["fc2"](self.layers["fc1"](x).relu())))

    packed = packify.pack(Block(), torch.randn(2, 5, 3), alpha=2, num_estimators=4, gamma=2, min_channels_per_group=8)
    found = {layer.name.rpartition(".")[2]: layer.gamma for layer in packed.report.layers}
    assert found == {"embed": 1, "qkv": 1, "proj": 2, "fc1": 1, "fc2": 2, "head": 1}


_POST_NORM = {"embed": (3, 64), "qkv": (64, 192), "proj": (64, 64), "fc1": (64, 128), "fc2": (128, 64), "head": (64, 2)}
